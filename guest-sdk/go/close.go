package jackfield

import (
	"jackfield/internal/bindings/imports/jackfield_plugin_close"
	wit "jackfield/internal/bindings/imports/jackfield_plugin_types"
	"jackfield/internal/wit/types"
)

// CloseClient ends a connection. The client has left from this call on. What is queued for it goes
// out first, then the last message, if one is given, then a close frame. Its OnClose follows.
//
// code is 1000 to 1003, 1007 to 1014 or 3000 to 4999; reason has at most 123 bytes.
//
// Codes: InvalidArgument, NotFound, Closed, Unreachable, TimedOut.
func CloseClient(client ClientID, code uint16, reason string, last ...Message) error {
	message, err := lastMessage("CloseClient", last, "client and reason", string(client), reason)
	if err != nil {
		return err
	}
	return tell(func() wit_types.Result[unit, wit.Error] {
		return jackfield_plugin_close.CloseClient(string(client), code, reason, message)
	})
}

// CloseUID closes every client of the uid, as CloseClient does; the answer counts them.
//
// Codes: InvalidArgument.
func CloseUID(uid string, code uint16, reason string, last ...Message) (Count, error) {
	message, err := lastMessage("CloseUID", last, "uid and reason", uid, reason)
	if err != nil {
		return Count{}, err
	}
	return ask(func() wit_types.Result[wit.Count, wit.Error] {
		return jackfield_plugin_close.CloseUid(uid, code, reason, message)
	}, copiedCount)
}

// CloseGroup closes every client in the group, as CloseClient does; the answer counts them.
//
// Codes: InvalidArgument.
func CloseGroup(group string, code uint16, reason string, last ...Message) (Count, error) {
	message, err := lastMessage("CloseGroup", last, "group and reason", group, reason)
	if err != nil {
		return Count{}, err
	}
	return ask(func() wit_types.Result[wit.Count, wit.Error] {
		return jackfield_plugin_close.CloseGroup(group, code, reason, message)
	}, copiedCount)
}

// lastMessage checks the arguments of a close, and returns its last message.
func lastMessage(
	function string, last []Message, names string, texts ...string,
) (wit_types.Option[wit.Message], error) {
	none := wit_types.None[wit.Message]()
	if err := text(function, names, texts...); err != nil {
		return none, err
	}
	switch len(last) {
	case 0:
		return none, nil
	case 1:
		message, err := last[0].lowered(function)
		if err != nil {
			return none, err
		}
		return wit_types.Some(message), nil
	}
	return none, misuse(function, "last", "it is one message at most")
}
