// Package history remembers how a node was in each minute of the last 96 days, in a
// file of fixed size: 96 KiB, whatever happens. It knows nothing of health, pages or
// names.
//
// # What is on disk
//
// A ring file is 192 sectors of 512 bytes: two copies of 96 days. Day d (days since
// 1970-01-01, UTC) is sector d mod 96 of the first half and of the second half of the
// file. Numbers are little-endian.
//
//	offset  bytes
//	0       4      "hdr1"
//	4       4      the day
//	8       8      number of the write; grows by one with each write to the file
//	16      480    the minutes: byte i has minutes 3i, 3i+1 and 3i+2 as a + 6b + 36c
//	496     12     zero
//	508     4      CRC-32C of the 508 bytes before it
//
// A minute is a Level: 0 nothing known, 1 maintenance, 2 up, 3 degraded, 4 unknown,
// 5 down. A sector of zeros has never been written. Of two copies that are whole the
// one with the higher number counts. All bytes are written when the file is made, so
// that a full disk does not end the history.
//
// # Crashes
//
// One copy is written until Sync has made it durable; then the other one is. So at
// any time one copy of today is on disk that nobody is writing to, and both copies of
// a day that is over. Assumed of the system is that fsync makes what was written
// durable, and that a write in progress when the power goes damages only pages of 4
// KiB that it touches: both copies of a day are never in one. Then
//
//   - a killed process loses nothing that Put has returned for;
//   - a power cut loses at most what came since the last Sync;
//   - a damaged sector is found out by its checksum, and never taken for something else.
//
// # Clocks
//
// A minute is found by the time of the wall clock alone, and a level is only ever
// replaced by a worse one. A clock that is put back therefore changes nothing that is
// worse than what it repeats. A clock that is wrong by months overwrites one day for
// each day that it shows; everything else is there when it is right again.
package history

import "time"

// Level is what a minute was. A minute that was several things is the last of them in
// the order of the constants, so that no outage is hidden by what came after it.
type Level uint8

const (
	// None is a minute that nothing is known about: nobody was watching.
	None Level = iota
	// Maintenance is a minute that does not count.
	Maintenance
	// Up is a minute that was well.
	Up
	// Degraded is a minute that was up, with reservations.
	Degraded
	// Unknown is a minute in which it could not be told whether it was up.
	Unknown
	// Down is a minute with an outage.
	Down

	levels = 6
)

// Counts is how many minutes there were of each Level; it is indexed by Level.
type Counts [levels]int

// Add returns the sum of both.
func (c Counts) Add(other Counts) Counts {
	for l := range c {
		c[l] += other[l]
	}
	return c
}

// Uptime returns the share of minutes that were up or degraded, 0 to 1, among those
// that count: not None, not Maintenance. It returns false if there are none.
func (c Counts) Uptime() (float64, bool) {
	up := c[Up] + c[Degraded]
	all := up + c[Unknown] + c[Down]
	if all == 0 {
		return 0, false
	}
	return float64(up) / float64(all), true
}

// Day is a day in UTC, counted from 1970-01-01.
type Day uint32

// DayOf returns the day of t; that of times before 1970 is 0.
func DayOf(t time.Time) Day { return Day(max(0, t.Unix()) / (minutesOfDay * 60)) }

// Time returns the beginning of the day, in UTC.
func (d Day) Time() time.Time { return time.Unix(int64(d)*minutesOfDay*60, 0).UTC() }
