// Package export_jackfield_plugin_call_handler has what the generated exports call; the package
// jackfield sets it.
package export_jackfield_plugin_call_handler

import (
	"jackfield/internal/bindings/imports/jackfield_plugin_call_handler"
	"jackfield/internal/bindings/imports/jackfield_plugin_types"
	"jackfield/internal/wit/types"
)

var OnCall func(caller jackfield_plugin_call_handler.Caller, method string, payload []byte) wit_types.Result[[]byte, jackfield_plugin_types.CallError]
