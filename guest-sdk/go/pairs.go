package jackfield

import "strings"

// A Pair is a name with its value.
type Pair struct{ Name, Value string }

// Query has a URL's names and values, in order, percent-decoded.
type Query []Pair

// Get returns the first value of this name, or "" if there is none.
func (query Query) Get(name string) string {
	for _, pair := range query {
		if pair.Name == name {
			return pair.Value
		}
	}
	return ""
}

// All returns all values of this name, in order.
func (query Query) All(name string) []string {
	var values []string
	for _, pair := range query {
		if pair.Name == name {
			values = append(values, pair.Value)
		}
	}
	return values
}

// Has says whether there is a value of this name, be it an empty one.
func (query Query) Has(name string) bool {
	for _, pair := range query {
		if pair.Name == name {
			return true
		}
	}
	return false
}

// Headers are HTTP headers, in order. The case of their names does not matter.
type Headers []Pair

// Get returns the first value of this name, or "" if there is none.
func (headers Headers) Get(name string) string {
	for _, pair := range headers {
		if strings.EqualFold(pair.Name, name) {
			return pair.Value
		}
	}
	return ""
}
