package main

import (
	"encoding/json"

	"jackfield"
)

// What goes out: answers to requests, and events. The order of the fields is that of the text.

type answer struct {
	ID json.RawMessage `json:"id"`
	verdict
}

// A verdict is a result, as its one key says: ok or error.
type verdict struct {
	OK    json.RawMessage `json:"ok,omitempty"`
	Error *failure        `json:"error,omitempty"`
}

type failure struct {
	Code    jackfield.Code `json:"code"`
	Message string         `json:"message"`
}

func answerOf(id json.RawMessage, outcome any, err error) answer {
	return answer{id, verdictOf(outcome, err)}
}

// answerTo carries out the request, if it is one.
func answerTo(asked request, err error, caller jackfield.ClientID) answer {
	if err != nil {
		return answerOf(null, nil, err)
	}
	outcome, err := asked.run(caller)
	return answerOf(asked.ID, outcome, err)
}

func verdictOf(outcome any, err error) verdict {
	if err != nil {
		found := &failure{jackfield.CodeOf(err), err.Error()}
		if failed, ok := err.(*jackfield.Error); ok {
			found.Message = failed.Message
		}
		return verdict{Error: found}
	}
	text, err := json.Marshal(outcome)
	if err != nil {
		panic(err) // strings, numbers and string maps are all JSON
	}
	return verdict{OK: text}
}

var null = json.RawMessage("null")

type reach struct {
	Clients uint64   `json:"clients"`
	Dropped uint64   `json:"dropped"`
	Missing []string `json:"missing"`
}

type count struct {
	Value   uint64   `json:"value"`
	Missing []string `json:"missing"`
}

type page[T any] struct {
	Items   []T      `json:"items"`
	Next    *string  `json:"next"`
	Missing []string `json:"missing"`
}

type identity struct {
	Plugin     string `json:"plugin"`
	Generation uint64 `json:"generation"`
	Node       string `json:"node"`
}

type connectedEvent struct {
	Event      string             `json:"event"`
	Client     jackfield.ClientID `json:"client"`
	Generation uint64             `json:"generation"`
	Handshake  *handshakeShown    `json:"handshake,omitempty"`
}

type handshakeShown struct {
	Path          string      `json:"path"`
	Query         [][2]string `json:"query"`
	Headers       [][2]string `json:"headers"`
	RemoteAddress string      `json:"remote_address"`
	Subprotocols  []string    `json:"subprotocols"`
	UID           *string     `json:"uid"`
}

type closedEvent struct {
	Event  string             `json:"event"`
	Client jackfield.ClientID `json:"client"`
	Code   uint16             `json:"code"`
	Reason string             `json:"reason"`
	By     string             `json:"by"`
	UID    *string            `json:"uid"`
	Groups []string           `json:"groups"`
	Info   map[string]string  `json:"info"`
}

type leaveEvent struct {
	Event string `json:"event"`
	verdict
}

type closeEvent struct {
	Event string `json:"event"`
	answer
}

type timerEvent struct {
	Event      string `json:"event"`
	Name       string `json:"name"`
	Generation uint64 `json:"generation"`
	Node       string `json:"node"`
}

type timerAnswer struct {
	Event string `json:"event"`
	Name  string `json:"name"`
	answer
}

func shown(handshake jackfield.Handshake) *handshakeShown {
	return &handshakeShown{
		Path:          handshake.Path,
		Query:         pairs(handshake.Query),
		Headers:       pairs(handshake.Headers),
		RemoteAddress: handshake.RemoteAddress,
		Subprotocols:  handshake.Subprotocols,
		UID:           orNull(handshake.UID),
	}
}

func pairs(from []jackfield.Pair) [][2]string {
	to := make([][2]string, len(from))
	for i, pair := range from {
		to[i] = [2]string{pair.Name, pair.Value}
	}
	return to
}

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
