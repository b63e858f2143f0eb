package jackfield

// A Code says for a program why a call failed.
//
// A Code is itself an error, so errors.Is(err, jackfield.NotFound) asks for it.
type Code string

// The codes. What a function may answer stands with it; calls may answer UnknownMethod,
// InvalidArgument, NotFound, Denied, LimitExceeded, Overloaded, Unavailable and Failed.
const (
	InvalidArgument Code = "invalid-argument" // an argument can't be what it claims to be
	NotFound        Code = "not-found"        // no such client: it has left, or it never was
	Closed          Code = "closed"           // the client is the one whose OnClose this is
	Taken           Code = "taken"            // another client has the uid, and the policy is reject-new
	Overloaded      Code = "overloaded"       // an outbox is full; or no instance of a called plugin came free
	LimitExceeded   Code = "limit-exceeded"   // the call would pass a limit, which the message names
	Unreachable     Code = "unreachable"      // the client's node is silent, or the link to it is full
	TimedOut        Code = "timed-out"        // the client's node did not answer; the call may have had its effect
	Denied          Code = "denied"           // the manifest does not grant it
	Internal        Code = "internal"         // the node failed to do its part
	UnknownMethod   Code = "unknown-method"   // a called plugin has no such method
	Unavailable     Code = "unavailable"      // a called plugin does not run here
	Failed          Code = "failed"           // it went wrong, perhaps after it had its effect
)

// Error returns the code's name.
func (code Code) Error() string { return string(code) }
