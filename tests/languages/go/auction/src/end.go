package main

import (
	"errors"
	"strings"

	"jackfield"
	"jackfield/bucket"
	"jackfield/http"
)

type soldEvent struct {
	Event  string  `json:"event"`
	Item   string  `json:"item"`
	Amount int64   `json:"amount"`
	By     *string `json:"by"`
}

// A timer fires when an item's time was over as it was set: a late bid may have moved the end.
func onTimer(name string) {
	item := strings.TrimPrefix(name, "end:")
	if err := end(item); err != nil {
		jackfield.Logf(jackfield.LevelError, "the auction of %q does not end: %v", item, err)
	}
}

// errNotYet and errClosed leave the auction as it is.
var (
	errNotYet = errors.New("it ends later")
	errClosed = errors.New("it is closed already")
)

func end(item string) error {
	bucketOfAuctions, err := auctions()
	if err != nil {
		return err
	}
	var rest int64
	sold, err := bucket.UpdateJSON(bucketOfAuctions, item, func(old auction, found bool) (auction, error) {
		if !old.Open {
			return old, errClosed
		}
		if rest = old.Ends - now(); rest > 0 {
			return old, errNotYet
		}
		old.Open = false
		return old, nil
	})
	switch err {
	case nil:
	case errNotYet:
		return setEnd(item, rest)
	case errClosed:
		return nil
	default:
		return err
	}
	event := soldEvent{"sold", item, sold.Price, sold.By}
	everybody(event)
	if url, ok := jackfield.Config("webhook"); ok {
		tell(url, event)
	}
	return nil
}

// tell brings the event to the webhook.
func tell(url string, event soldEvent) {
	response, err := http.PostJSON(url, event)
	if err == nil && !response.OK() {
		err = jackfield.Errorf(jackfield.Failed, "it answered %d", response.Status)
	}
	if err != nil {
		jackfield.Logf(jackfield.LevelWarn, "the webhook did not hear that %q is sold: %v", event.Item, err)
	}
}
