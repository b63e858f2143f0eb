package jackfield

import (
	"time"

	"jackfield/internal/bindings/imports/jackfield_plugin_timers"
	wit "jackfield/internal/bindings/imports/jackfield_plugin_types"
	"jackfield/internal/wit/types"
)

// A Timer says when OnTimer comes. Times are 10 ms to 366 days; what is below a millisecond is cut.
type Timer struct {
	After time.Duration // from now to the first time
	Every time.Duration // from one time to the next; 0: it comes once
	Scope Scope
}

// A Scope says which node fires a timer.
type Scope uint8

const (
	OnNode    Scope = iota // the node where it was set
	OnCluster              // one node of the cluster, of those that run the plugin
)

// SetTimer sets a timer, in place of one of the same name and scope. Timers are the node's: they
// outlive the event, the instance and the build, and end with the plugin.
//
// Codes: InvalidArgument (an empty or too long name, impossible times), LimitExceeded.
func SetTimer(name string, timer Timer) error {
	if err := text("SetTimer", "name", name); err != nil {
		return err
	}
	if timer.After < 0 || timer.Every < 0 {
		return misuse("SetTimer", "timer", "its times must not be negative")
	}
	every := wit_types.None[uint64]()
	if timer.Every > 0 {
		every = wit_types.Some(uint64(timer.Every.Milliseconds()))
	}
	return tell(func() wit_types.Result[unit, wit.Error] {
		return jackfield_plugin_timers.SetTimer(
			name, uint64(timer.After.Milliseconds()), every, uint8(min(timer.Scope, OnCluster)))
	})
}

// CancelTimer ends a timer. The answer says whether there was such a timer.
//
// Codes: InvalidArgument.
func CancelTimer(name string, scope Scope) (bool, error) {
	if err := text("CancelTimer", "name", name); err != nil {
		return false, err
	}
	return ask(func() wit_types.Result[bool, wit.Error] {
		return jackfield_plugin_timers.CancelTimer(name, uint8(min(scope, OnCluster)))
	}, same[bool])
}
