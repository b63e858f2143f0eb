// Package export_jackfield_plugin_lifecycle has what the generated exports call; the package
// jackfield sets it.
package export_jackfield_plugin_lifecycle

import "jackfield/internal/wit/types"

var (
	OnStart func() wit_types.Result[wit_types.Unit, string]
	OnStop  func()
)
