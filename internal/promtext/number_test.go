package promtext

import (
	"math"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// TestNumber: the value of every number is the one that strconv finds.
func TestNumber(t *testing.T) {
	check := func(t fataler, s string) {
		t.Helper()
		want, err := strconv.ParseFloat(s, 64)
		if n := numberSize([]byte(s + "\n")); n != len(s) || err != nil {
			t.Fatalf("%q: size %d, %v", s, n, err)
		}
		if got := number([]byte(s)); math.Float64bits(got) != math.Float64bits(want) {
			t.Fatalf("%q: %v, want %v", s, got, want)
		}
	}
	for _, s := range []string{
		"0", "-0", "9007199254740991", "9007199254740992", "9007199254740993", "18446744073709551617", "36893488147419103232.5", "0.1", "-12345.678", "0.0000000000000001", "0.00000000000000001",
		"123456789012345.6", "1.7976931348623157e308", "5e-324", "+Inf", "Nan",
	} {
		check(t, s)
	}
	rapid.Check(t, func(t *rapid.T) { check(t, rapid.StringMatching(`-?[0-9]{1,22}(\.[0-9]{0,22})?`).Draw(t, "number")) })
}

// TestAppendNumber: a value is read as the same one again.
func TestAppendNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1e15: "1000000000000000", -3: "-3", 1 << 60: "1.152921504606847e+18", 0.1: "0.1", math.Inf(1): "+Inf", math.Inf(-1): "-Inf"} {
		if got := string(appendNumber(nil, v)); got != want || number([]byte(got)) != v {
			t.Errorf("%v: %s", v, got)
		}
	}
	if got := string(appendNumber(nil, math.NaN())); got != "NaN" {
		t.Error(got)
	}
}
