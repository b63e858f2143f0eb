package jackfield

// A Refusal turns a client away, before the upgrade, with an HTTP answer.
type Refusal struct {
	Status uint16 // 400 to 599; anything else becomes 403
	Reason string // the answer's body
}

// Refuse makes the error with which OnConnect turns a client away.
func Refuse(status uint16, reason string) error { return &Refusal{status, reason} }

// Error returns the reason.
func (refusal *Refusal) Error() string { return refusal.Reason }
