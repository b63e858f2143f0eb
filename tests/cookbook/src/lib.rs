//! The plugins of the cookbook are the examples of this package.
