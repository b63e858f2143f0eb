package http

import (
	"encoding/json"

	"jackfield"
)

// A Response is a server's whole answer.
type Response struct {
	Status  uint16
	Headers jackfield.Headers
	Body    []byte
}

// OK says whether the status is 200 to 299. A redirect is not followed.
func (response Response) OK() bool { return response.Status/100 == 2 }

// Text returns the body as text.
func (response Response) Text() string { return string(response.Body) }

// JSON reads the body as JSON into what value points to. InvalidArgument: it is no such JSON.
func (response Response) JSON(value any) error {
	if err := json.Unmarshal(response.Body, value); err != nil {
		return jackfield.Errorf(jackfield.InvalidArgument, "the body: %v", err)
	}
	return nil
}
