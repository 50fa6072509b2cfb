package output

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// lbState is what a Graylog node says of itself to load balancers.
type lbState uint8

const (
	lbUnknown   lbState = iota // it did not say, which means nothing
	lbAlive                    // send
	lbThrottled                // do not send for now: its journal is nearly full
	lbDead                     // send to another: it is about to stop
)

// How often a node is asked, and how long it may take. A node that stops says so
// for 3 seconds before it closes (lb_recognition_period_seconds of graylog.conf).
const (
	lbEvery   = 2 * time.Second
	lbTimeout = 2 * time.Second
)

// askLB asks a node for its state (Graylog REST API, GET /api/system/lbstatus: 200
// ALIVE, 429 THROTTLED, 503 DEAD). The error says why that is not known.
func askLB(ctx context.Context, client *http.Client, url string) (lbState, error) {
	ctx, cancel := context.WithTimeout(ctx, lbTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return lbUnknown, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return lbUnknown, err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection can be used again
	switch resp.StatusCode {
	case http.StatusOK:
		return lbAlive, nil
	case http.StatusTooManyRequests:
		return lbThrottled, nil
	case http.StatusServiceUnavailable:
		return lbDead, nil
	}
	return lbUnknown, fmt.Errorf("GET %s: %s", url, resp.Status)
}
