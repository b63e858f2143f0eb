// Package export_jackfield_plugin_handler has what the generated exports call; the package
// jackfield sets it.
package export_jackfield_plugin_handler

import (
	"jackfield/internal/bindings/imports/jackfield_plugin_types"
	"jackfield/internal/wit/types"
)

var (
	OnConnect func(client string, handshake jackfield_plugin_types.Handshake) wit_types.Result[jackfield_plugin_types.Acceptance, jackfield_plugin_types.Refusal]
	OnMessage func(client string, message jackfield_plugin_types.Message)
	OnClose   func(client string, departure jackfield_plugin_types.Departure)
)
