// Package graylog asks Graylog's REST API whether a message can be found. It sends
// no messages and changes nothing in Graylog.
package graylog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxAnswerBytes is far above the answer for one message with one field.
const maxAnswerBytes = 1 << 20

// ErrToken means that Graylog does not know the token, or that it does not allow the
// search.
var ErrToken = errors.New("access token is refused")

// Search finds messages by their event IDs. It may be used by several goroutines.
type Search struct {
	// API is the URL of the REST API with its path, such as
	// http://graylog.example.com:9000/api.
	API *url.URL
	// Token is an access token of a user who may read the streams of the message.
	Token string
	// Client asks. Its time-outs count.
	Client *http.Client
}

// answer is the table that the search returns: the names of the columns, and a row
// for each message.
type answer struct {
	Schema []struct {
		Field string `json:"field"`
	} `json:"schema"`
	Rows [][]any `json:"datarows"`
}

// Find reports whether a message with that event_id, of the last day by its
// timestamp, can be found: it is indexed then. The ID must be made of letters, digits
// and "-".
//
// It is GET /search/messages of Graylog's "Scripting API" (Graylog 5.1 and later);
// the token is the user of Basic authentication and the word "token" the password
// (Graylog documentation, "REST API, Access Tokens"). The error is ErrToken or says
// what else the API answered.
func (s *Search) Find(ctx context.Context, eventID string) (bool, error) {
	u := s.API.JoinPath("search/messages")
	u.RawQuery = url.Values{"query": {"event_id:" + strconv.Quote(eventID)}, "fields": {"event_id"}, "timerange": {"1d"}, "size": {"1"}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return false, err
	}
	req.SetBasicAuth(s.Token, "token")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("X-Requested-By", "logship") // Graylog wants it of everything that is not a browser
	resp, err := s.Client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return false, fmt.Errorf("read the answer of %s: %w", s.API.Host, err)
	}
	if resp.StatusCode != http.StatusOK {
		return false, refusal(resp.StatusCode, body)
	}
	var found answer
	if err := json.Unmarshal(body, &found); err != nil || found.Schema == nil {
		return false, fmt.Errorf("%s answers something that is no search result: is it the URL of the REST API, which mostly ends in /api?", s.API.Host)
	}
	return slices.ContainsFunc(found.Rows, func(row []any) bool { return slices.Contains(row, any(eventID)) }), nil
}

// refusal returns what an answer other than 200 means.
func refusal(status int, body []byte) error {
	switch status {
	case http.StatusUnauthorized:
		return fmt.Errorf("%w: answer 401: make a token under System, Users, Edit tokens", ErrToken)
	case http.StatusForbidden:
		return fmt.Errorf("%w: answer 403: its user may not search; share the stream with that user", ErrToken)
	case http.StatusNotFound:
		return errors.New("answer 404: give the URL of the REST API, which mostly ends in /api, of Graylog 5.1 or later")
	}
	var why struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &why) != nil || strings.TrimSpace(why.Message) == "" {
		return fmt.Errorf("answer %d", status)
	}
	return fmt.Errorf("answer %d: %.200q", status, why.Message)
}
