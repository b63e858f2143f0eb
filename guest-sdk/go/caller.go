package jackfield

// A Caller is who calls. One of the two is said.
type Caller struct {
	Plugin string // the name of a plugin of this node; "" if a backend calls
	Token  string // the name of the token that a backend calls with; "" if its node asks for none
}
