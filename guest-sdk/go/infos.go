package jackfield

import (
	"jackfield/internal/bindings/imports/jackfield_plugin_infos"
	wit "jackfield/internal/bindings/imports/jackfield_plugin_types"
	"jackfield/internal/wit/types"
)

// GetInfo returns the client's info; empty when nothing was set, which is not the same as NotFound.
//
// Codes: InvalidArgument, NotFound, Closed, Unreachable, TimedOut.
func GetInfo(client ClientID) (map[string]string, error) {
	if err := text("GetInfo", "client", client); err != nil {
		return nil, err
	}
	return ask(func() wit_types.Result[wit.Info, wit.Error] {
		return jackfield_plugin_infos.GetInfo(string(client))
	}, copiedMap)
}

// SetInfo replaces the client's info.
//
// Codes: InvalidArgument, NotFound, Closed, LimitExceeded (bytes of info), Unreachable, TimedOut.
func SetInfo(client ClientID, info map[string]string) error {
	if err := infoText("SetInfo", client, info); err != nil {
		return err
	}
	return tell(func() wit_types.Result[unit, wit.Error] {
		return jackfield_plugin_infos.SetInfo(string(client), pairsOf(info))
	})
}

// UpdateInfo sets each key of set to its value, and deletes the keys of remove. The answer is the
// whole info after it.
//
// Codes: InvalidArgument, NotFound, Closed, LimitExceeded, Unreachable, TimedOut.
func UpdateInfo(client ClientID, set map[string]string, remove ...string) (map[string]string, error) {
	if err := infoText("UpdateInfo", client, set); err != nil {
		return nil, err
	}
	if err := text("UpdateInfo", "remove", remove...); err != nil {
		return nil, err
	}
	type change = wit_types.Tuple2[string, wit_types.Option[string]]
	changes := make([]change, 0, len(set)+len(remove))
	for key, value := range set {
		changes = append(changes, change{F0: key, F1: wit_types.Some(value)})
	}
	for _, key := range remove {
		changes = append(changes, change{F0: key, F1: wit_types.None[string]()})
	}
	return ask(func() wit_types.Result[wit.Info, wit.Error] {
		return jackfield_plugin_infos.UpdateInfo(string(client), changes)
	}, copiedMap)
}

func infoText(function string, client ClientID, info map[string]string) error {
	if err := text(function, "client", client); err != nil {
		return err
	}
	for key, value := range info {
		if err := text(function, "info", key, value); err != nil {
			return err
		}
	}
	return nil
}
