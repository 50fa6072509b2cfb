package scrape

import (
	"fmt"
	"sync/atomic"

	"sidecar/internal/probe"
)

// DefaultTotalBytes bounds the pages of all targets together by default.
const DefaultTotalBytes = 32 << 20

// room bounds the bytes of the pages of all targets: healthd needs up to twelve times
// as much memory (test/health measures it). One half is shared out equally, so that a
// target which stays within its share is never left out for the others. Those that need
// more take it from the other half, as long as there is some.
type room struct {
	share int64
	left  atomic.Int64
}

// allot returns the room of a scrape of members. What was made for pages so far is still
// there; where it no longer fits, as there are more targets, it is given back.
func (s *Scraper) allot(members []*member) *room {
	half := s.o.TotalBytes / 2
	r := &room{share: half / int64(max(len(members), 1))}
	left := half
	for _, m := range members {
		left -= max(m.made-r.share, 0)
	}
	if left < 0 {
		for _, m := range members {
			if m.made > r.share {
				m.reset()
			}
		}
		left = half
	}
	r.left.Store(left)
	return r
}

// claim is what one page has of a room.
type claim struct {
	room *room
	had  int64 // bytes
	more int64 // of these, what was taken of room.left
}

// claim returns the claim of a page whose target has made that many bytes already.
func (r *room) claim(made int64) *claim { return &claim{room: r, had: max(made, r.share)} }

// grow makes c one of size bytes.
func (c *claim) grow(size int) error {
	more := int64(size) - c.had
	if more <= 0 {
		return nil
	}
	if c.room.left.Add(-more) < 0 {
		c.room.left.Add(more)
		return fmt.Errorf("%w: over %d bytes, and metrics.max_total leaves no more", probe.ErrTooLong, c.had)
	}
	c.had, c.more = c.had+more, c.more+more
	return nil
}

// release gives back what c has taken.
func (c *claim) release() { c.room.left.Add(c.more) }
