package promproto

import (
	"bytes"
	"errors"
	"io"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"

	"sidecar/internal/promtext"
)

// Whatever a target sends, another target is there, whole, and what is written is a page of
// protobuf whose native histograms Prometheus takes.
func FuzzRead(f *testing.F) {
	f.Add(page(service(f)...), false)
	f.Add(page(native(), good()), true)
	f.Add([]byte("\x80\x80\x80\x80\x08"), true)
	twice := native()
	twice.Metric = append(twice.Metric, twice.Metric[0])
	f.Add(page(twice, twice), true)
	other := newBoth(promtext.Options{App: "other"})
	if _, err := other.Read(page(good()), allRoom); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte, lenient bool) {
		b := newBoth(promtext.Options{App: "x", Worker: "1", Lenient: lenient})
		_, err := b.Read(data, allRoom)
		var m promtext.Merger
		text, _ := m.Append(nil, promtext.Text, []*promtext.Target{other.text, b.text}, nil)
		out, lost := Append(nil, text, []*Target{other.Target, b.Target})
		r, whole := bytes.NewReader(out), false
		series := 0
		for {
			family := new(dto.MetricFamily)
			if err := protodelim.UnmarshalFrom(r, family); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			for _, metric := range family.Metric {
				series++
				if reason, ok := check(family.GetType(), metric); !ok {
					t.Errorf("%v: %s", reason, metric)
				}
				if family.GetName() == "good" && metric.Label[0].GetValue() == "other" {
					whole = true
				}
			}
		}
		if !whole {
			t.Error("the other target is missing")
		}
		if err != nil && series != 1 {
			t.Errorf("%d series, though the page was refused: %v", series, err)
		}
		if err == nil && lost == 0 && bytes.Contains(text, []byte("app=\"x\"")) && series < 2 {
			t.Errorf("nothing is left of %q", text)
		}
	})
}
