package journal_test

import (
	"encoding/json"
	"testing"

	"sidecar/internal/journal"
)

const dropped = "MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e"

func TestSuppressedMessagesAreCountedOnce(t *testing.T) {
	w := newTiny(1, true)
	w.add(1, "MESSAGE=Suppressed 983 messages from edge3.service", dropped, "_TRANSPORT=driver")
	// Not from journald, or not understood.
	w.add(2, "MESSAGE=Suppressed 5 messages from edge3.service", dropped, "_TRANSPORT=journal")
	w.add(3, "MESSAGE=Suppressed 5 messages from edge3.service", "_TRANSPORT=driver")
	w.add(4, "MESSAGE=Suppressed many messages from edge3.service", dropped, "_TRANSPORT=driver")
	w.add(5, "MESSAGE=Suppressed 5 messages", dropped, "_TRANSPORT=driver")
	w.add(6, "MESSAGE=Suppressed 7 messages from /user.slice", dropped, "_TRANSPORT=driver")
	var g gaps
	o := journal.SourceOptions{}
	o.OnGap = g.add
	s := openSource(t, o, w)
	for range 2 {
		n := 0
		for {
			if _, ok := next(t, s); !ok {
				break
			}
			n++
		}
		if n != 6 {
			t.Errorf("%d entries: the message is an entry as well", n)
		}
		g.want(t, "suppressed", 983+7, 2)
		if err := s.Rewind(json.RawMessage("{}")); err != nil {
			t.Fatal(err)
		}
	}
	if g[0].Unit != "edge3.service" || g[0].UntilUsec != baseUsec+1 || g[1].Unit != "/user.slice" {
		t.Errorf("gaps %+v", g)
	}
}

func TestEveryGapSaysWhatItIs(t *testing.T) {
	seen := map[string]bool{}
	for _, reason := range []string{"damaged_entry", "damaged_field", "damaged_file", "vanished_file", "pin_quota", "missing_entries",
		"unsupported_file", "unreadable_file", "suppressed", "another"} {
		text := journal.Gap{Reason: reason}.String()
		if text == "" || seen[text] {
			t.Errorf("%s: %q", reason, text)
		}
		seen[text] = true
	}
}
