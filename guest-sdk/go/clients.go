package jackfield

import (
	"jackfield/internal/bindings/imports/jackfield_plugin_clients"
	wit "jackfield/internal/bindings/imports/jackfield_plugin_types"
	"jackfield/internal/wit/types"
)

// IsOnline says whether this client is connected: false for one that has left, is being closed or
// never was.
//
// Codes: InvalidArgument (a malformed id), Unreachable, TimedOut.
func IsOnline(client ClientID) (bool, error) {
	if err := text("IsOnline", "client", client); err != nil {
		return false, err
	}
	return ask(func() wit_types.Result[bool, wit.Error] {
		return jackfield_plugin_clients.IsOnline(string(client))
	}, same[bool])
}

// GetAllClientCount returns how many clients this plugin has in the cluster.
func GetAllClientCount() (Count, error) {
	return ask(jackfield_plugin_clients.GetAllClientCount, copiedCount)
}
