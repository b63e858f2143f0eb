//! The commands for authors of plugins: from an empty folder to a plugin that runs while it is
//! written.
//!
//! A project is a folder with a `jackfield.toml`, which says how the plugin is built in its language.

mod build;
mod componentize;
mod connect;
mod dev;
mod dev_screen;
mod new;
mod plugins_folder;
mod project;
mod replay;
mod scripted_client;
mod shown_message;
mod sources;
mod test;
mod test_cluster;
mod token;
mod watched_tree;
mod wit;

use clap::Subcommand;

use self::componentize::ComponentizeFlags;
use self::connect::ConnectFlags;
use self::dev::DevFlags;
use self::new::NewFlags;
use self::project::ProjectFlags;
use self::replay::ReplayFlags;
use self::test::TestFlags;
use self::token::TokenFlags;

pub use self::sources::embedded_files;

/// A command for the author of a plugin.
#[derive(Subcommand)]
pub enum AuthorCommand {
    /// Write a new plugin: its source, a page, a manifest, a test, and how it is built.
    New(NewFlags),
    /// Build the plugin whenever a file changes, and run it on a node of its own, with open sockets.
    Dev(DevFlags),
    /// Build the plugin, and check that a node would load it.
    Build(ProjectFlags),
    /// Build the plugin, and run the tests of its language and its scenarios.
    Test(TestFlags),
    /// Run what clients have sent, as `jackfield record` has written it, through a build, and show what it
    /// sends differently.
    Replay(ReplayFlags),
    /// Make a component of a core module, as compilers without components write it.
    Componentize(ComponentizeFlags),
    /// Write the folder `wit`: the world of the plugin, with what its manifest grants.
    Wit(ProjectFlags),
    /// Connect to a plugin as a client, send the lines of the standard input, and print what comes.
    Connect(ConnectFlags),
    /// Sign a token for a client, with the secret that the manifest names.
    Token(TokenFlags),
}

impl AuthorCommand {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// What the command is to do has failed; the error says what to do next.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            AuthorCommand::New(flags) => new::new(&flags),
            AuthorCommand::Dev(flags) => dev::dev(&flags),
            AuthorCommand::Build(flags) => build::build(&flags),
            AuthorCommand::Test(flags) => test::test(&flags),
            AuthorCommand::Replay(flags) => replay::replay(&flags),
            AuthorCommand::Componentize(flags) => componentize::componentize(&flags),
            AuthorCommand::Wit(flags) => wit::write(&flags),
            AuthorCommand::Connect(flags) => connect::connect(&flags),
            AuthorCommand::Token(flags) => token::token(&flags),
        }
    }
}
