// Package export_jackfield_plugin_timer_handler has what the generated exports call; the package
// jackfield sets it.
package export_jackfield_plugin_timer_handler

var OnTimer func(name string)
