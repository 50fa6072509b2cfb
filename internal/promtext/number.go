package promtext

import (
	"bytes"
	"math"
	"strconv"
)

// numberSize returns the length of the number that b begins with: up to a blank, a
// newline or the end of b. It returns 0 if there is none, or one that Prometheus does
// not take.
//
// The fast path knows decimal numbers that cannot overflow; signs other than minus,
// NaN, Inf and what else strconv takes go to parseNumber.
func numberSize(b []byte) int {
	i := 0
	if i < len(b) && b[i] == '-' {
		i++
	}
	first := i
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	if i < len(b) && b[i] == '.' {
		for i++; i < len(b) && b[i]-'0' <= 9; i++ {
		}
	}
	// Two digits and a dot are a number in any order, and 300 digits are below 1e308.
	if digits := i - first; i == len(b) || b[i] == '\n' || b[i] == ' ' || b[i] == '\t' {
		if digits == 1 && b[first] != '.' || digits >= 2 && digits < 300 {
			return i
		}
	}
	end := bytes.IndexAny(b, " \t\n")
	if end < 0 {
		end = len(b)
	}
	if _, ok := parseNumber(b[:end]); !ok {
		return 0
	}
	return end
}

// parseNumber returns the value of a number, as textparse does: what
// strconv.ParseFloat takes, without the hexadecimal floats and underscores of Go.
func parseNumber(b []byte) (v float64, ok bool) {
	if bytes.ContainsAny(b, "pP_") {
		return 0, false
	}
	v, err := strconv.ParseFloat(string(b), 64)
	return v, err == nil
}

// number returns the value of what numberSize found.
//
// A decimal number whose digits fit into the mantissa and whose fraction is a power
// of ten that a float64 holds exactly needs one division, which rounds correctly.
func number(b []byte) float64 {
	digits, fraction, dot := uint64(0), 0, 0
	for i, c := range b {
		switch {
		case c-'0' <= 9:
			digits = digits*10 + uint64(c-'0')
			fraction += dot
		case c == '.' && dot == 0:
			dot = 1
		case c == '-' && i == 0:
		default:
			v, _ := parseNumber(b)
			return v
		}
	}
	if len(b) > 17 || digits >= 1<<53 {
		v, _ := parseNumber(b)
		return v
	}
	v := float64(digits)
	if fraction > 0 {
		v /= powersOfTen[fraction]
	}
	if b[0] == '-' {
		return -v
	}
	return v
}

// powersOfTen are those that a float64 holds exactly, as far as they are needed.
var powersOfTen = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17}

// appendNumber appends v as Prometheus writes it: whole numbers without a fraction,
// NaN, +Inf and -Inf.
func appendNumber(dst []byte, v float64) []byte {
	switch {
	case v == math.Trunc(v) && math.Abs(v) < 1<<53:
		return strconv.AppendInt(dst, int64(v), 10)
	case math.IsInf(v, 1):
		return append(dst, "+Inf"...)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}
