// Command go makes the calls of the official Go library against a running server. They
// come as lines of JSON and are answered as lines of JSON; see lib/program.mjs.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pusher/pusher-http-go/v5"
)

// call is a line: what to call, and the arguments of whatever it is.
type call struct {
	Call     string            `json:"call"`
	Channels []string          `json:"channels"`
	Channel  string            `json:"channel"`
	Event    string            `json:"event_name"`
	Data     any               `json:"data"`
	SocketID string            `json:"socket_id"`
	Batch    []event           `json:"batch"`
	Prefix   *string           `json:"prefix"`
	Info     []string          `json:"info"`
	UserID   string            `json:"user_id"`
	User     *user             `json:"user"`
	UserData map[string]any    `json:"user_data"`
	Headers  map[string]string `json:"headers"`
	Body     string            `json:"body"`
}

type event struct {
	Channel string `json:"channel"`
	Name    string `json:"name"`
	Data    any    `json:"data"`
}

type user struct {
	ID   string            `json:"user_id"`
	Info map[string]string `json:"user_info"`
}

func main() {
	port, appID, key, secret, masterKey := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	hub := &pusher.Client{
		AppID: appID, Key: key, Secret: secret, Host: "127.0.0.1:" + port, EncryptionMasterKeyBase64: masterKey,
		// The library's own limit of five seconds is short for a machine that is busy.
		HTTPClient: &http.Client{Timeout: time.Minute},
	}
	if err := serve(os.Stdin, os.Stdout, hub); err != nil {
		log.Fatal(err)
	}
}

func serve(in io.Reader, out io.Writer, hub *pusher.Client) error {
	calls, answers := json.NewDecoder(bufio.NewReader(in)), json.NewEncoder(out)
	for {
		var c call
		if err := calls.Decode(&c); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read a call: %w", err)
		}
		answer := map[string]any{}
		if result, err := c.make(hub); err != nil {
			answer["error"] = err.Error()
		} else {
			answer["result"] = result
		}
		if err := answers.Encode(answer); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

func (c call) make(hub *pusher.Client) (any, error) {
	var info *string
	if len(c.Info) > 0 {
		attributes := strings.Join(c.Info, ",")
		info = &attributes
	}
	params := url.Values{"socket_id": {c.SocketID}, "channel_name": {c.Channel}}.Encode()
	switch c.Call {
	case "trigger":
		options := pusher.TriggerParams{}
		if c.SocketID != "" {
			options.SocketID = &c.SocketID
		}
		_, err := hub.TriggerMultiWithParams(c.Channels, c.Event, c.Data, options)
		return map[string]any{}, err
	case "batch":
		batch := make([]pusher.Event, len(c.Batch))
		for i, e := range c.Batch {
			batch[i] = pusher.Event{Channel: e.Channel, Name: e.Name, Data: e.Data}
		}
		_, err := hub.TriggerBatch(batch)
		return map[string]any{}, err
	case "channels":
		return hub.Channels(pusher.ChannelsParams{FilterByPrefix: c.Prefix, Info: info})
	case "channel":
		channel, err := hub.Channel(c.Channel, pusher.ChannelParams{Info: info})
		if err != nil {
			return nil, err
		}
		// The struct has a field that is no part of an answer.
		answer := map[string]any{"occupied": channel.Occupied}
		for name, count := range map[string]int{"user_count": channel.UserCount, "subscription_count": channel.SubscriptionCount} {
			if slices.Contains(c.Info, name) {
				answer[name] = count
			}
		}
		return answer, nil
	case "users":
		return hub.GetChannelUsers(c.Channel)
	case "send_to_user":
		return map[string]any{}, hub.SendToUser(c.UserID, c.Event, c.Data)
	case "authorize":
		if c.User != nil {
			return raw(hub.AuthorizePresenceChannel([]byte(params), pusher.MemberData{UserID: c.User.ID, UserInfo: c.User.Info}))
		}
		return raw(hub.AuthorizePrivateChannel([]byte(params)))
	case "authenticate":
		return raw(hub.AuthenticateUser([]byte(params), c.UserData))
	case "webhook":
		header := http.Header{}
		for name, value := range c.Headers {
			header.Set(name, value)
		}
		hook, err := hub.Webhook(header, []byte(c.Body))
		if err != nil {
			return nil, err
		}
		return hook.Events, nil
	}
	return nil, fmt.Errorf("%s: no such call", c.Call)
}

func raw(response []byte, err error) (any, error) {
	return json.RawMessage(response), err
}
