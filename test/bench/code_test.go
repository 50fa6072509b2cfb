package main

import (
	"slices"
	"testing"
)

func TestAddRound(t *testing.T) {
	const output = `goos: linux
BenchmarkChain/logship:_parse,_encode         	  475408	      2394 ns/op	 143.27 MB/s	      2387.5 cpu-ns/op	       0 B/op	       0 allocs/op
BenchmarkChain/encoding/json 	   66147	     18492 ns/op	  18.55 MB/s	     18446 cpu-ns/op	    4492 B/op	      97 allocs/op
PASS
`
	var rows []*row
	for range 2 {
		var err error
		if rows, err = addRound(rows, []byte(output)); err != nil {
			t.Fatal(err)
		}
	}
	if len(rows) != 2 || rows[0].name != "logship: parse, encode" || rows[1].name != "encoding/json" {
		t.Fatalf("rows %+v", rows)
	}
	for i, want := range [][]float64{{2387.5, 0, 0}, {18446, 4492, 97}} {
		r := rows[i]
		for k, got := range [][]float64{r.nsec, r.bytes, r.allocs} {
			if !slices.Equal(got, []float64{want[k], want[k]}) {
				t.Errorf("%s: %v, want %v in each of two rounds", r.name, got, want[k])
			}
		}
	}
	if _, err := addRound(nil, []byte("PASS\n")); err == nil {
		t.Error("takes output without a benchmark")
	}
}
