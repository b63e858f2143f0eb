package main

import (
	"bytes"
	"encoding/json"
	"strings"

	"jackfield"
)

// A request is what to do, with which arguments, and the id that its answer carries.
type request struct {
	ID        json.RawMessage // any JSON value; null where the request has none
	Do        json.RawMessage
	Arguments map[string]json.RawMessage
}

const expected = `a request is a text message with a JSON object, {"id":7,"do":"join-group","group":"g"}`

func fromMessage(message jackfield.Message) (request, error) {
	text, ok := message.Text()
	if !ok {
		return request{}, invalid("%s; this was a binary message", expected)
	}
	return parse(text)
}

// namedOrWhole is a whole request, or for short the name of one that needs no arguments: panic.
func namedOrWhole(text string) (request, error) {
	if strings.HasPrefix(text, "{") {
		return parse(text)
	}
	name, err := json.Marshal(text)
	return request{ID: null, Do: name}, err
}

func parse(text string) (request, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		return request{}, invalid("%s: %v", expected, err)
	}
	if object == nil {
		return request{}, invalid("%s: it is null", expected)
	}
	return fromObject(object), nil
}

func fromObject(object map[string]json.RawMessage) request {
	asked := request{ID: null, Do: object["do"], Arguments: map[string]json.RawMessage{}}
	if id, ok := object["id"]; ok {
		asked.ID = id
	}
	for name, value := range object {
		if name != "id" && name != "do" {
			asked.Arguments[name] = value
		}
	}
	return asked
}

func (asked request) hasID() bool { return !bytes.Equal(asked.ID, null) }

// run carries the request out. caller is who is meant where no client is named.
func (asked request) run(caller jackfield.ClientID) (any, error) {
	var name string
	if json.Unmarshal(asked.Do, &name) != nil {
		return nil, invalid("%s", expected)
	}
	operation, err := find(name)
	if err != nil {
		return nil, err
	}
	given, err := operation.decode(asked.Arguments, caller)
	if err != nil {
		return nil, err
	}
	return operation.run(given)
}

func invalid(format string, arguments ...any) error {
	return jackfield.Errorf(jackfield.InvalidArgument, format, arguments...)
}
