package jackfield

import (
	"bytes"
	"strings"

	"jackfield/internal/bindings/imports/jackfield_plugin_calls"
	wit "jackfield/internal/bindings/imports/jackfield_plugin_types"
	"jackfield/internal/wit/runtime"
)

// Call calls another plugin's OnCall on this node, and waits for its answer. The other plugin's
// manifest must name this one under [calls] allow.
//
// Codes: what the callee answers; or from the node Unavailable, UnknownMethod, Denied, LimitExceeded,
// Overloaded, Failed.
func Call(plugin, method string, payload []byte) ([]byte, error) {
	if err := text("Call", "plugin and method", plugin, method); err != nil {
		return nil, err
	}
	runtime.BeginCall()
	defer runtime.EndCall()
	result := jackfield_plugin_calls.Call(plugin, method, payload)
	if result.IsErr() {
		refused := result.Err()
		return nil, &Error{callCodes[refused.Code], strings.Clone(refused.Message)}
	}
	return bytes.Clone(result.Ok()), nil
}

var callCodes = [...]Code{
	wit.CallErrorCode_UnknownMethod:   UnknownMethod,
	wit.CallErrorCode_InvalidArgument: InvalidArgument,
	wit.CallErrorCode_NotFound:        NotFound,
	wit.CallErrorCode_Denied:          Denied,
	wit.CallErrorCode_LimitExceeded:   LimitExceeded,
	wit.CallErrorCode_Overloaded:      Overloaded,
	wit.CallErrorCode_Unavailable:     Unavailable,
	wit.CallErrorCode_Failed:          Failed,
}
