package main

import (
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"jackfield"
)

// An operation is what a request's do may name.
type operation struct {
	name string
	// Its arguments: ? marks those that may be left out.
	takes string
	run   func(*arguments) (any, error)
}

// Filled by init, since repeat looks operations up itself.
var operations []operation

func init() {
	operations = []operation{
		{"send-to-all", "text or binary, exclude?", sendToAll},
		{"send-to-client", "client?, text or binary", sendToClient},
		{"reply", "text or binary", reply},
		{"send-to-uid", "uid or uids, text or binary", sendToUID},
		{"send-to-group", "group or groups, text or binary, exclude?", sendToGroup},
		{"bind-uid", "client?, uid", bindUID},
		{"unbind-uid", "client?, uid?", unbindUID},
		{"is-uid-online", "uid", isUIDOnline},
		{"get-uid-by-client-id", "client?", getUIDByClientID},
		{"get-client-ids-by-uid", "uid, cursor?, limit?", getClientIDsByUID},
		{"get-all-uids", "cursor?, limit?", getAllUIDs},
		{"join-group", "client?, group", joinGroup},
		{"leave-group", "client?, group", leaveGroup},
		{"ungroup", "group", counting(jackfield.Ungroup)},
		{"get-client-count-by-group", "group", counting(jackfield.GetClientCountByGroup)},
		{"get-client-ids-by-group", "group, cursor?, limit?", getClientIDsByGroup},
		{"get-uids-by-group", "group, cursor?, limit?", getUIDsByGroup},
		{"get-uid-count-by-group", "group", counting(jackfield.GetUIDCountByGroup)},
		{"get-all-groups", "cursor?, limit?", getAllGroups},
		{"is-online", "client?", isOnline},
		{"get-all-client-count", "nothing", getAllClientCount},
		{"close-client", "client?, code?, reason?, text? or binary?", closeClient},
		{"close-uid", "uid, code?, reason?, text? or binary?", closeUID},
		{"close-group", "group, code?, reason?, text? or binary?", closeGroup},
		{"get-info", "client?", getInfo},
		{"set-info", "client?, info", setInfo},
		{"update-info", "client?, info", updateInfo},
		{"call", "plugin, method, payload?", call},
		{"set-timer", "name, after_ms, every_ms?, scope?", setTimer},
		{"cancel-timer", "name, scope?", cancelTimer},
		{"identify", "nothing", identify},
		{"generation", "nothing", identify},
		{"log", "level?, text", log},
		{"print", "text", print},
		{"sleep", "ms?, log?", sleep},
		{"repeat", "times, request", repeat},
		{"panic", "message?", panics},
		{"unreachable", "nothing", func(*arguments) (any, error) { unreachable(); return nil, nil }},
		{"spin", "ms?", spin},
		{"spin-host", "nothing", spinHost},
		{"overflow-stack", "nothing", func(*arguments) (any, error) { return nil, overflow(overflowStack(0)) }},
		{"eat-memory", "bytes?", eatMemory},
		{"grow-memory", "bytes", growMemory},
		{"exit", "code?", exit},
	}
}

func find(name string) (operation, error) {
	var known []string
	for _, operation := range operations {
		if operation.name == name {
			return operation, nil
		}
		known = append(known, operation.name)
	}
	return operation{}, invalid("`do` can't be `%s`; it is one of %s", name, strings.Join(known, ", "))
}

func sendToAll(given *arguments) (any, error) {
	message, err := given.message()
	if err != nil {
		return nil, err
	}
	return reached(jackfield.SendToAll(message, given.exclude()...))
}

func sendToClient(given *arguments) (any, error) {
	message, err := given.message()
	if err != nil {
		return nil, err
	}
	return nil, jackfield.SendToClient(given.who(), message)
}

func reply(given *arguments) (any, error) {
	message, err := given.message()
	if err != nil {
		return nil, err
	}
	return nil, jackfield.Reply(message)
}

func sendToUID(given *arguments) (any, error) {
	uids, err := either("uid", given.UID, given.UIDs)
	if err != nil {
		return nil, err
	}
	message, err := given.message()
	if err != nil {
		return nil, err
	}
	return reached(jackfield.SendToUIDs(uids, message))
}

func sendToGroup(given *arguments) (any, error) {
	groups, err := either("group", given.Group, given.Groups)
	if err != nil {
		return nil, err
	}
	message, err := given.message()
	if err != nil {
		return nil, err
	}
	return reached(jackfield.SendToGroups(groups, message, given.exclude()...))
}

// either is the argument that has two names.
func either(argument string, one, many names) ([]string, error) {
	switch {
	case one == nil && many == nil:
		return nil, invalid("missing field `%s`", argument)
	case one != nil && many != nil:
		return nil, invalid("duplicate field `%s`", argument)
	case one != nil:
		return one, nil
	}
	return many, nil
}

func bindUID(given *arguments) (any, error) {
	uid, err := oneName("uid", given.UID)
	if err != nil {
		return nil, err
	}
	return nil, jackfield.BindUID(given.who(), uid)
}

func unbindUID(given *arguments) (any, error) {
	if given.UID == nil {
		return jackfield.UnbindUID(given.who())
	}
	uid, err := oneName("uid", given.UID)
	if err != nil {
		return nil, err
	}
	return jackfield.UnbindThisUID(given.who(), uid)
}

func isUIDOnline(given *arguments) (any, error) {
	uid, err := oneName("uid", given.UID)
	if err != nil {
		return nil, err
	}
	return jackfield.IsUIDOnline(uid)
}

func getUIDByClientID(given *arguments) (any, error) {
	uid, err := jackfield.GetUIDByClientID(given.who())
	return orNull(uid), err
}

func getClientIDsByUID(given *arguments) (any, error) {
	uid, err := oneName("uid", given.UID)
	if err != nil {
		return nil, err
	}
	return paged(jackfield.GetClientIDsByUID(uid, given.Cursor, given.limit()))
}

func getAllUIDs(given *arguments) (any, error) {
	return paged(jackfield.GetAllUIDs(given.Cursor, given.limit()))
}

func joinGroup(given *arguments) (any, error) {
	group, err := oneName("group", given.Group)
	if err != nil {
		return nil, err
	}
	return nil, jackfield.JoinGroup(given.who(), group)
}

func leaveGroup(given *arguments) (any, error) {
	group, err := oneName("group", given.Group)
	if err != nil {
		return nil, err
	}
	return nil, jackfield.LeaveGroup(given.who(), group)
}

// counting is an operation that counts in a group.
func counting(ask func(string) (jackfield.Count, error)) func(*arguments) (any, error) {
	return func(given *arguments) (any, error) {
		group, err := oneName("group", given.Group)
		if err != nil {
			return nil, err
		}
		return counted(ask(group))
	}
}

func getClientIDsByGroup(given *arguments) (any, error) {
	group, err := oneName("group", given.Group)
	if err != nil {
		return nil, err
	}
	return paged(jackfield.GetClientIDsByGroup(group, given.Cursor, given.limit()))
}

func getUIDsByGroup(given *arguments) (any, error) {
	group, err := oneName("group", given.Group)
	if err != nil {
		return nil, err
	}
	return paged(jackfield.GetUIDsByGroup(group, given.Cursor, given.limit()))
}

func getAllGroups(given *arguments) (any, error) {
	return paged(jackfield.GetAllGroups(given.Cursor, given.limit()))
}

func isOnline(given *arguments) (any, error) { return jackfield.IsOnline(given.who()) }

func getAllClientCount(*arguments) (any, error) { return counted(jackfield.GetAllClientCount()) }

func closeClient(given *arguments) (any, error) {
	code, err := given.code()
	if err != nil {
		return nil, err
	}
	last, err := given.lastMessage()
	if err != nil {
		return nil, err
	}
	return nil, jackfield.CloseClient(given.who(), code, given.Reason, last...)
}

func closeUID(given *arguments) (any, error) {
	return closing("uid", given.UID, given, jackfield.CloseUID)
}

func closeGroup(given *arguments) (any, error) {
	return closing("group", given.Group, given, jackfield.CloseGroup)
}

func closing(
	argument string, named names, given *arguments,
	closes func(string, uint16, string, ...jackfield.Message) (jackfield.Count, error),
) (any, error) {
	name, err := oneName(argument, named)
	if err != nil {
		return nil, err
	}
	code, err := given.code()
	if err != nil {
		return nil, err
	}
	last, err := given.lastMessage()
	if err != nil {
		return nil, err
	}
	return counted(closes(name, code, given.Reason, last...))
}

func getInfo(given *arguments) (any, error) { return jackfield.GetInfo(given.who()) }

func setInfo(given *arguments) (any, error) {
	info := map[string]string{}
	for key, value := range given.Info {
		if value == nil {
			return nil, invalid("set-info takes client?, info: invalid type: null, expected a string")
		}
		info[key] = *value
	}
	return nil, jackfield.SetInfo(given.who(), info)
}

func updateInfo(given *arguments) (any, error) {
	set := map[string]string{}
	var remove []string
	for key, value := range given.Info {
		if value == nil {
			remove = append(remove, key)
		} else {
			set[key] = *value
		}
	}
	return jackfield.UpdateInfo(given.who(), set, remove...)
}

func call(given *arguments) (any, error) {
	answer, err := jackfield.Call(given.Plugin, given.Method, []byte(given.Payload))
	return strings.ToValidUTF8(string(answer), "\uFFFD"), err
}

func setTimer(given *arguments) (any, error) {
	after, err := milliseconds("after_ms", given.AfterMS)
	if err != nil {
		return nil, err
	}
	timer := jackfield.Timer{After: after, Scope: given.Scope.Scope}
	if given.EveryMS != nil {
		if timer.Every, err = milliseconds("every_ms", *given.EveryMS); err != nil {
			return nil, err
		}
		if timer.Every == 0 {
			return nil, invalid("`every_ms` can't be 0") // where Timer has it, it is: once
		}
	}
	return nil, jackfield.SetTimer(given.Name, timer)
}

// milliseconds is a time that a Duration can hold, which is 292 years.
func milliseconds(argument string, ms uint64) (time.Duration, error) {
	if ms > math.MaxInt64/uint64(time.Millisecond) {
		return 0, invalid("`%s` can't be %d", argument, ms)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

func cancelTimer(given *arguments) (any, error) {
	return jackfield.CancelTimer(given.Name, given.Scope.Scope)
}

func identify(*arguments) (any, error) { return identity(jackfield.Identify()), nil }

func log(given *arguments) (any, error) {
	jackfield.Log(valueOr(given.Level, level{jackfield.LevelInfo}).Level, *given.Text)
	return nil, nil
}

func print(given *arguments) (any, error) {
	fmt.Println(*given.Text)
	fmt.Fprintln(os.Stderr, *given.Text)
	return nil, nil
}

func sleep(given *arguments) (any, error) {
	if given.Log != nil {
		jackfield.Log(jackfield.LevelInfo, *given.Log)
	}
	time.Sleep(time.Duration(valueOr(given.MS, 1000)) * time.Millisecond)
	return nil, nil
}

// repeat is the same request many times within one event; the answer is the last one's.
func repeat(given *arguments) (outcome any, err error) {
	for range given.Times {
		if outcome, err = fromObject(given.Request).run(given.caller); err != nil {
			return nil, err
		}
	}
	return outcome, nil
}

func reached(answer jackfield.Reach, err error) (any, error) { return reach(answer), err }

func counted(answer jackfield.Count, err error) (any, error) { return count(answer), err }

func paged[T any](answer jackfield.Page[T], err error) (any, error) {
	return page[T]{answer.Items, orNull(answer.Next), answer.Missing}, err
}
