package jackfield

import (
	"jackfield/internal/bindings/imports/jackfield_plugin_groups"
	wit "jackfield/internal/bindings/imports/jackfield_plugin_types"
	"jackfield/internal/wit/types"
)

// JoinGroup puts the client into the group. Joining again is no error.
//
// Codes: InvalidArgument (a malformed id, an empty or too long group), NotFound, Closed,
// LimitExceeded, Unreachable, TimedOut.
func JoinGroup(client ClientID, group string) error {
	if err := text("JoinGroup", "client and group", string(client), group); err != nil {
		return err
	}
	return tell(func() wit_types.Result[unit, wit.Error] {
		return jackfield_plugin_groups.JoinGroup(string(client), group)
	})
}

// LeaveGroup takes the client out of the group. Not being in it is no error.
//
// Codes: InvalidArgument, NotFound, Closed, Unreachable, TimedOut.
func LeaveGroup(client ClientID, group string) error {
	if err := text("LeaveGroup", "client and group", string(client), group); err != nil {
		return err
	}
	return tell(func() wit_types.Result[unit, wit.Error] {
		return jackfield_plugin_groups.LeaveGroup(string(client), group)
	})
}

// Ungroup dissolves the group; its members stay connected. The answer counts them.
//
// Codes: InvalidArgument.
func Ungroup(group string) (Count, error) {
	return countGroup("Ungroup", group, jackfield_plugin_groups.Ungroup)
}

// GetClientCountByGroup returns how many clients are in the group.
//
// Codes: InvalidArgument.
func GetClientCountByGroup(group string) (Count, error) {
	return countGroup("GetClientCountByGroup", group, jackfield_plugin_groups.GetClientCountByGroup)
}

// GetUIDCountByGroup returns how many different uids are in the group.
//
// Codes: InvalidArgument.
func GetUIDCountByGroup(group string) (Count, error) {
	return countGroup("GetUIDCountByGroup", group, jackfield_plugin_groups.GetUidCountByGroup)
}

// GetClientIDsByGroup returns the clients in the group. The first cursor is ""; limit is 1 to 1,000.
//
// Codes: InvalidArgument (also: a cursor that no page gave out).
func GetClientIDsByGroup(group, cursor string, limit uint32) (Page[ClientID], error) {
	if err := text("GetClientIDsByGroup", "group and cursor", group, cursor); err != nil {
		return Page[ClientID]{}, err
	}
	return ask(func() wit_types.Result[wit.Page, wit.Error] {
		return jackfield_plugin_groups.GetClientIdsByGroup(group, option(cursor), limit)
	}, copiedPage[ClientID])
}

// GetUIDsByGroup returns the uids in the group, each once; members without a uid do not show. The
// first cursor is ""; limit is 1 to 1,000.
//
// Codes: InvalidArgument.
func GetUIDsByGroup(group, cursor string, limit uint32) (Page[string], error) {
	if err := text("GetUIDsByGroup", "group and cursor", group, cursor); err != nil {
		return Page[string]{}, err
	}
	return ask(func() wit_types.Result[wit.Page, wit.Error] {
		return jackfield_plugin_groups.GetUidsByGroup(group, option(cursor), limit)
	}, copiedPage[string])
}

// GetAllGroups returns all groups that have members. The first cursor is ""; limit is 1 to 1,000.
//
// Codes: InvalidArgument.
func GetAllGroups(cursor string, limit uint32) (Page[string], error) {
	if err := text("GetAllGroups", "cursor", cursor); err != nil {
		return Page[string]{}, err
	}
	return ask(func() wit_types.Result[wit.Page, wit.Error] {
		return jackfield_plugin_groups.GetAllGroups(option(cursor), limit)
	}, copiedPage[string])
}

func countGroup(
	function, group string, call func(string) wit_types.Result[wit.Count, wit.Error],
) (Count, error) {
	if err := text(function, "group", group); err != nil {
		return Count{}, err
	}
	return ask(func() wit_types.Result[wit.Count, wit.Error] { return call(group) }, copiedCount)
}
