package main

import (
	"errors"

	"jackfield"
)

type bidMessage struct {
	Bid *struct {
		Item   *string `json:"item"`
		Amount *int64  `json:"amount"`
	} `json:"bid"`
}

type bidEvent struct {
	Event  string `json:"event"`
	Item   string `json:"item"`
	Amount int64  `json:"amount"`
	By     string `json:"by"`
}

type refusedEvent struct {
	Event string `json:"event"`
	Item  string `json:"item,omitempty"`
	Why   string `json:"why"`
}

const expected = `send {"bid":{"item":…,"amount":…}}`

func onMessage(client jackfield.ClientID, message jackfield.Message) {
	var sent bidMessage
	if message.JSON(&sent) != nil || sent.Bid == nil || sent.Bid.Item == nil || sent.Bid.Amount == nil {
		jackfield.Reply(jackfield.JSON(refusedEvent{Event: "refused", Why: expected}))
		return
	}
	item, amount := *sent.Bid.Item, *sent.Bid.Amount
	by, err := jackfield.GetUIDByClientID(client)
	if err != nil {
		return // it has left
	}
	err = bid(item, amount, by)
	if err == nil {
		everybody(bidEvent{"bid", item, amount, by})
		return
	}
	if _, ok := errors.AsType[refusal](err); !ok {
		jackfield.Logf(jackfield.LevelError, "a bid for %q is lost: %v", item, err)
	}
	jackfield.Reply(jackfield.JSON(refusedEvent{"refused", item, err.Error()}))
}
