package jackfield

import (
	"strings"

	"jackfield/internal/bindings/imports/wasi_config_store"
	"jackfield/internal/wit/runtime"
)

// Config returns the setting of this name, which [config] of the manifest has; ok is false if it has
// none.
func Config(name string) (value string, ok bool) {
	if text("Config", "name", name) != nil {
		return "", false
	}
	runtime.BeginCall()
	defer runtime.EndCall()
	// Its errors are for stores that are elsewhere: a node has read the manifest, and gives none.
	result := wasi_config_store.Get(name)
	if result.IsErr() || result.Ok().IsNone() {
		return "", false
	}
	return strings.Clone(result.Ok().Some()), true
}

// AllConfig returns all settings of the manifest.
func AllConfig() map[string]string {
	runtime.BeginCall()
	defer runtime.EndCall()
	result := wasi_config_store.GetAll()
	if result.IsErr() {
		return map[string]string{}
	}
	return copiedMap(result.Ok())
}
