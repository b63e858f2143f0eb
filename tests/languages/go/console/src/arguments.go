package main

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"jackfield"
)

// The arguments of the operations. Those that are left out are nil.
type arguments struct {
	caller jackfield.ClientID

	Client  *jackfield.ClientID        `json:"client"`
	UID     names                      `json:"uid"`
	UIDs    names                      `json:"uids"`
	Group   names                      `json:"group"`
	Groups  names                      `json:"groups"`
	Exclude names                      `json:"exclude"`
	Text    *string                    `json:"text"`
	Binary  *[]byte                    `json:"binary"` // encoding/json has bytes in base64
	Cursor  string                     `json:"cursor"`
	Limit   *uint32                    `json:"limit"`
	Code    *json.Number               `json:"code"`
	Reason  string                     `json:"reason"`
	Info    map[string]*string         `json:"info"`
	Plugin  string                     `json:"plugin"`
	Method  string                     `json:"method"`
	Payload string                     `json:"payload"`
	Name    string                     `json:"name"`
	AfterMS uint64                     `json:"after_ms"`
	EveryMS *uint64                    `json:"every_ms"`
	Scope   scope                      `json:"scope"`
	Level   *level                     `json:"level"`
	Message *string                    `json:"message"`
	Times   uint32                     `json:"times"`
	Request map[string]json.RawMessage `json:"request"`
	MS      *uint64                    `json:"ms"`
	Log     *string                    `json:"log"`
	Bytes   *uint64                    `json:"bytes"`
}

// decode reads the arguments. A name that the operation does not take is an error, so that a typo is
// seen.
func (operation operation) decode(
	given map[string]json.RawMessage, caller jackfield.ClientID,
) (*arguments, error) {
	decoded := &arguments{caller: caller}
	text, err := json.Marshal(given)
	if err == nil {
		err = json.Unmarshal(text, decoded)
	}
	takes := strings.FieldsFunc(operation.takes, func(r rune) bool { return r == ' ' || r == ',' })
	for name := range given {
		if !slices.Contains(takes, name) && !slices.Contains(takes, name+"?") {
			err = errors.New("unknown field `" + name + "`")
		}
	}
	for i, name := range takes {
		isOneOfTwo := i > 0 && takes[i-1] == "or" || i+1 < len(takes) && takes[i+1] == "or"
		value, ok := given[name]
		isMissing := !ok || string(value) == "null"
		if isMissing && !isOneOfTwo && name != "or" && name != "nothing" && !strings.HasSuffix(name, "?") {
			err = errors.New("missing field `" + name + "`")
		}
	}
	if err != nil {
		return nil, invalid("%s takes %s: %v", operation.name, operation.takes, err)
	}
	return decoded, nil
}

// who is the client that is meant.
func (given *arguments) who() jackfield.ClientID {
	if given.Client != nil {
		return *given.Client
	}
	return given.caller
}

func (given *arguments) limit() uint32 { return valueOr(given.Limit, 100) }

// code is a close code.
func (given *arguments) code() (uint16, error) {
	if given.Code == nil {
		return 1000, nil
	}
	code, err := given.Code.Int64()
	if err != nil || code < 0 || code > 65535 {
		return 0, invalid("`code` can't be %s, expected u16", *given.Code)
	}
	return uint16(code), nil
}

// message is the message of a send: text, or binary in base64.
func (given *arguments) message() (jackfield.Message, error) {
	last, err := given.lastMessage()
	if err == nil && last == nil {
		err = invalid("the message is missing: give `text`, or `binary` in base64")
	}
	if err != nil {
		return jackfield.Message{}, err
	}
	return last[0], nil
}

// lastMessage is the last message of a close, which may be left out.
func (given *arguments) lastMessage() ([]jackfield.Message, error) {
	switch {
	case given.Text != nil && given.Binary != nil:
		return nil, invalid("a message is `text` or `binary`, not both")
	case given.Text != nil:
		return []jackfield.Message{jackfield.Text(*given.Text)}, nil
	case given.Binary != nil:
		return []jackfield.Message{jackfield.Binary(*given.Binary)}, nil
	}
	return nil, nil
}

func (given *arguments) exclude() []jackfield.ClientID {
	excluded := make([]jackfield.ClientID, len(given.Exclude))
	for i, id := range given.Exclude {
		excluded[i] = jackfield.ClientID(id)
	}
	return excluded
}

// oneName is the name of an argument that takes one.
func oneName(argument string, given names) (string, error) {
	if len(given) != 1 {
		return "", invalid("`%s` is one string", argument)
	}
	return given[0], nil
}

// Names are a string or an array of strings.
type names []string

func (given *names) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*given = names{one}
		return nil
	}
	var many []string
	if json.Unmarshal(text, &many) != nil {
		return errors.New("expected a string or an array of strings")
	}
	*given = many
	return nil
}

type scope struct{ jackfield.Scope }

func (given *scope) UnmarshalText(text []byte) error {
	switch string(text) {
	case "node":
		given.Scope = jackfield.OnNode
	case "cluster":
		given.Scope = jackfield.OnCluster
	default:
		return errors.New("unknown variant `" + string(text) + "`, expected `node` or `cluster`")
	}
	return nil
}

type level struct{ jackfield.Level }

func (given *level) UnmarshalText(text []byte) error {
	at := slices.Index([]string{"trace", "debug", "info", "warn", "error"}, string(text))
	if at < 0 {
		return errors.New("unknown variant `" + string(text) + "`")
	}
	given.Level = jackfield.Level(at)
	return nil
}

func valueOr[T any](given *T, otherwise T) T {
	if given == nil {
		return otherwise
	}
	return *given
}
