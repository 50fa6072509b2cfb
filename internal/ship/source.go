package ship

import (
	"context"
	"encoding/json"
	"time"

	"sidecar/internal/record"
)

// Source is where entries come from: something that can be read again. Except
// for Run and Ready its methods are called by the line's goroutine only.
type Source interface {
	// Name labels the source in metrics and in the state file.
	Name() string
	// Run does what has to go on beside Next, until ctx is done or nothing is
	// left to do.
	Run(ctx context.Context) error
	// Ready receives a value when Next may have more.
	Ready() <-chan struct{}
	// Next fills e with the next entry and reports whether there is one for now.
	// io.EOF means that there will never be another; any other error ends the line.
	Next(e *record.Entry) (bool, error)
	// Idle returns how long to wait for Ready before calling Next all the same.
	Idle(now time.Time) time.Duration
	// Position returns the position behind the last entry of Next, or, if entries
	// from before it are still held, the last one that is before all of these.
	Position(held []record.Origin) (json.RawMessage, error)
	// Rewind goes to an earlier position, also one of another process.
	Rewind(position json.RawMessage) error
	// Commit says that everything up to position is confirmed: there will be no
	// Rewind to before it.
	Commit(position json.RawMessage) error
	// Lag returns how many entries wait, and how old the oldest of them is.
	Lag(now time.Time) (entries uint64, age time.Duration)
}
