package health

import (
	"fmt"
	"time"
)

// SummaryFormat is the value of Summary.Format that this package writes and knows.
const SummaryFormat = 1

// What a Summary tells of each state that is not pass.
const (
	maxWhy      = 4
	maxWhyBytes = 120
)

// Summary is what a machine tells a hub, as one small JSON document: less than a
// kilobyte while all is well.
type Summary struct {
	// Format is SummaryFormat. It also tells this document from any other JSON.
	Format int `json:"healthd"`
	// At is the time of the judgement, by the machine's clock.
	At time.Time `json:"at"`
	// AgeSeconds is how long ago that was when the summary was made, by a clock that is
	// never set. A healthd that is stuck tells an ever larger one.
	AgeSeconds float64 `json:"age_seconds"`
	// Brief is how the whole machine stands.
	Brief
	// Services is how what has a public name stands, by Slug.
	Services map[string]Brief `json:"services,omitempty"`
}

// Brief is a Standing in short.
type Brief struct {
	State State `json:"state"`
	Up    bool  `json:"up"`
	// Why are the ends of the chains of causes, such as "pay/3/http: fail: status 503";
	// cut, and only the first few. For operators, like Standing.Text.
	Why []string `json:"why,omitempty"`
}

// Summary returns the summary of the snapshot at the time now, which should come from
// the same clock as that of the snapshot.
func (s *Snapshot) Summary(now time.Time) *Summary {
	sum := &Summary{Format: SummaryFormat, At: s.At, AgeSeconds: now.Sub(s.At).Seconds(), Brief: s.brief("", s.Standing)}
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.Public != "" {
			if sum.Services == nil {
				sum.Services = map[string]Brief{}
			}
			sum.Services[Slug(n.Public)] = s.brief(n.ID, n.Standing)
		}
	}
	return sum
}

// brief cuts the standing of a node, "" for the machine.
func (s *Snapshot) brief(id string, standing Standing) Brief {
	b := Brief{State: standing.State, Up: standing.Up}
	if b.State == Pass {
		return b
	}
	roots := s.Roots(id)
	if len(roots) == 0 && standing.Text != "" {
		b.Why = []string{cutTo(standing.Text, maxWhyBytes)}
	}
	for i, root := range roots {
		if i == maxWhy {
			b.Why = append(b.Why, fmt.Sprintf("and %d more", len(roots)-maxWhy))
			break
		}
		n := s.Node(root)
		text := root + ": " + n.State.String()
		if n.Text != "" {
			text += ": " + n.Text
		}
		b.Why = append(b.Why, cutTo(text, maxWhyBytes))
	}
	return b
}
