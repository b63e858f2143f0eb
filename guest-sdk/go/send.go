package jackfield

import (
	"jackfield/internal/bindings/imports/jackfield_plugin_send"
	wit "jackfield/internal/bindings/imports/jackfield_plugin_types"
	"jackfield/internal/wit/types"
)

// SendToAll sends to all clients of this plugin in the cluster, but those excluded.
//
// Codes: InvalidArgument (a malformed id in exclude), LimitExceeded.
func SendToAll(message Message, exclude ...ClientID) (Reach, error) {
	lowered, err := message.lowered("SendToAll")
	if err != nil {
		return Reach{}, err
	}
	if err := text("SendToAll", "exclude", exclude...); err != nil {
		return Reach{}, err
	}
	return ask(func() wit_types.Result[wit.Reach, wit.Error] {
		return jackfield_plugin_send.SendToAll(lowered, plain(exclude))
	}, copiedReach)
}

// SendToClient sends to one client. nil means that its outbox has the message, or the link to the
// node where the client is.
//
// Codes: InvalidArgument, NotFound, Closed, Overloaded, Unreachable, LimitExceeded.
func SendToClient(client ClientID, message Message) error {
	lowered, err := message.lowered("SendToClient")
	if err != nil {
		return err
	}
	if err := text("SendToClient", "client", client); err != nil {
		return err
	}
	return tell(func() wit_types.Result[unit, wit.Error] {
		return jackfield_plugin_send.SendToClient(string(client), lowered)
	})
}

// Reply sends to the client whose event this is.
//
// Codes: InvalidArgument (an event that is no client's), NotFound, Closed, Overloaded, Unreachable,
// LimitExceeded.
func Reply(message Message) error {
	lowered, err := message.lowered("Reply")
	if err != nil {
		return err
	}
	return tell(func() wit_types.Result[unit, wit.Error] {
		return jackfield_plugin_send.Reply(lowered)
	})
}

// SendToUID sends to every client of the uid. Nobody there is no error.
//
// Codes: InvalidArgument (an empty uid), LimitExceeded.
func SendToUID(uid string, message Message) (Reach, error) {
	return sendToUIDs("SendToUID", []string{uid}, message)
}

// SendToUIDs sends to every client of each of these uids, once each.
//
// Codes: those of SendToUID.
func SendToUIDs(uids []string, message Message) (Reach, error) {
	return sendToUIDs("SendToUIDs", uids, message)
}

func sendToUIDs(function string, uids []string, message Message) (Reach, error) {
	lowered, err := message.lowered(function)
	if err != nil {
		return Reach{}, err
	}
	if err := text(function, "uid", uids...); err != nil {
		return Reach{}, err
	}
	return ask(func() wit_types.Result[wit.Reach, wit.Error] {
		return jackfield_plugin_send.SendToUid(uids, lowered)
	}, copiedReach)
}

// SendToGroup sends to the members of the group, but those excluded. An empty group is no error.
//
// Codes: InvalidArgument (an empty name, a malformed id in exclude), LimitExceeded.
func SendToGroup(group string, message Message, exclude ...ClientID) (Reach, error) {
	return sendToGroups("SendToGroup", []string{group}, message, exclude)
}

// SendToGroups sends to the members of these groups; a member of several of them gets the message
// once.
//
// Codes: those of SendToGroup.
func SendToGroups(groups []string, message Message, exclude ...ClientID) (Reach, error) {
	return sendToGroups("SendToGroups", groups, message, exclude)
}

func sendToGroups(
	function string, groups []string, message Message, exclude []ClientID,
) (Reach, error) {
	lowered, err := message.lowered(function)
	if err != nil {
		return Reach{}, err
	}
	if err := text(function, "group", groups...); err != nil {
		return Reach{}, err
	}
	if err := text(function, "exclude", exclude...); err != nil {
		return Reach{}, err
	}
	return ask(func() wit_types.Result[wit.Reach, wit.Error] {
		return jackfield_plugin_send.SendToGroup(groups, lowered, plain(exclude))
	}, copiedReach)
}
