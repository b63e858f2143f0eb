package jackfield

import (
	"bytes"
	"encoding/json"
)

// A Message is one WebSocket message. It stays text or binary from end to end.
type Message struct {
	text   string
	bytes  []byte
	binary bool
	wrong  error // why it can't be sent
}

// Text makes a text message. It must be UTF-8: a send of anything else answers InvalidArgument.
func Text(text string) Message { return Message{text: text} }

// Binary makes a binary message.
func Binary(bytes []byte) Message { return Message{bytes: bytes, binary: true} }

// JSON makes a text message with a value in JSON. A send of a value that can't be written in
// JSON answers InvalidArgument.
func JSON(value any) Message {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // a socket is no HTML page
	if err := encoder.Encode(value); err != nil {
		return Message{wrong: err}
	}
	return Message{text: string(bytes.TrimSuffix(text.Bytes(), []byte("\n")))}
}

// Text returns the text of a text message; ok is false for a binary one.
func (message Message) Text() (text string, ok bool) { return message.text, !message.binary }

// Bytes returns the bytes of the message, be it text or binary.
func (message Message) Bytes() []byte {
	if message.binary {
		return message.bytes
	}
	return []byte(message.text)
}

// JSON reads a text message as JSON into what value points to. InvalidArgument: it is no such JSON.
func (message Message) JSON(value any) error {
	if message.binary {
		return Errorf(InvalidArgument, "the message is binary, and no JSON text")
	}
	if err := json.Unmarshal([]byte(message.text), value); err != nil {
		return Errorf(InvalidArgument, "the message: %v", err)
	}
	return nil
}
