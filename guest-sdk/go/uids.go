package jackfield

import (
	wit "jackfield/internal/bindings/imports/jackfield_plugin_types"
	"jackfield/internal/bindings/imports/jackfield_plugin_uids"
	"jackfield/internal/wit/types"
)

// BindUID gives the client this uid in place of the one it had.
//
// Codes: InvalidArgument (a malformed id, an empty or too long uid), NotFound, Closed, Taken,
// LimitExceeded, Unreachable, TimedOut.
func BindUID(client ClientID, uid string) error {
	if err := text("BindUID", "client and uid", string(client), uid); err != nil {
		return err
	}
	return tell(func() wit_types.Result[unit, wit.Error] {
		return jackfield_plugin_uids.BindUid(string(client), uid)
	})
}

// UnbindUID takes the client's uid away. The answer says whether it had one.
//
// Codes: InvalidArgument, NotFound, Closed, Unreachable, TimedOut.
func UnbindUID(client ClientID) (bool, error) {
	return unbindUID("UnbindUID", client, wit_types.None[string]())
}

// UnbindThisUID takes the client's uid away if it is this one. The answer says whether it was.
//
// Codes: those of UnbindUID.
func UnbindThisUID(client ClientID, uid string) (bool, error) {
	if err := text("UnbindThisUID", "uid", uid); err != nil {
		return false, err
	}
	return unbindUID("UnbindThisUID", client, wit_types.Some(uid))
}

func unbindUID(function string, client ClientID, uid wit_types.Option[string]) (bool, error) {
	if err := text(function, "client", client); err != nil {
		return false, err
	}
	return ask(func() wit_types.Result[bool, wit.Error] {
		return jackfield_plugin_uids.UnbindUid(string(client), uid)
	}, same[bool])
}

// IsUIDOnline says whether any client has this uid.
//
// Codes: InvalidArgument.
func IsUIDOnline(uid string) (bool, error) {
	if err := text("IsUIDOnline", "uid", uid); err != nil {
		return false, err
	}
	return ask(func() wit_types.Result[bool, wit.Error] {
		return jackfield_plugin_uids.IsUidOnline(uid)
	}, same[bool])
}

// GetUIDByClientID returns the client's uid; "" when it has none, which is not the same as NotFound.
//
// Codes: InvalidArgument, NotFound, Closed, Unreachable, TimedOut.
func GetUIDByClientID(client ClientID) (string, error) {
	if err := text("GetUIDByClientID", "client", client); err != nil {
		return "", err
	}
	return ask(func() wit_types.Result[wit_types.Option[string], wit.Error] {
		return jackfield_plugin_uids.GetUidByClientId(string(client))
	}, copiedOption)
}

// GetClientIDsByUID returns the clients with this uid. The first cursor is ""; limit is 1 to 1,000.
//
// Codes: InvalidArgument (also: a cursor that no page gave out).
func GetClientIDsByUID(uid, cursor string, limit uint32) (Page[ClientID], error) {
	if err := text("GetClientIDsByUID", "uid and cursor", uid, cursor); err != nil {
		return Page[ClientID]{}, err
	}
	return ask(func() wit_types.Result[wit.Page, wit.Error] {
		return jackfield_plugin_uids.GetClientIdsByUid(uid, option(cursor), limit)
	}, copiedPage[ClientID])
}

// GetAllUIDs returns all uids that some client has, each once. The first cursor is ""; limit is 1 to
// 1,000.
//
// Codes: InvalidArgument.
func GetAllUIDs(cursor string, limit uint32) (Page[string], error) {
	if err := text("GetAllUIDs", "cursor", cursor); err != nil {
		return Page[string]{}, err
	}
	return ask(func() wit_types.Result[wit.Page, wit.Error] {
		return jackfield_plugin_uids.GetAllUids(option(cursor), limit)
	}, copiedPage[string])
}
