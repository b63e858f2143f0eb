package jackfield

import (
	"strings"

	"jackfield/internal/bindings/imports/jackfield_plugin_runtime"
	"jackfield/internal/wit/runtime"
)

// An Identity says what runs, and where.
type Identity struct {
	Plugin     string // the component's file name without .wasm
	Generation uint64 // which load of the plugin on this node this is, from 1
	Node       string // the node's incarnation: a new one at each start of the process
}

// Identify returns what runs, and where.
func Identify() Identity {
	runtime.BeginCall()
	defer runtime.EndCall()
	identity := jackfield_plugin_runtime.Identify()
	return Identity{strings.Clone(identity.Plugin), identity.Generation, strings.Clone(identity.Node)}
}
