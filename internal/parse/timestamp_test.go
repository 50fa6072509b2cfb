package parse

import (
	"testing"
	"time"

	"sidecar/internal/record"
)

func TestTimestampForms(t *testing.T) {
	const at = "2026-11-17T08:15:30"
	p := New(Options{})
	ok := func(in, want string) {
		t.Helper()
		w, err := time.Parse(time.RFC3339Nano, want)
		if err != nil {
			t.Fatal(err)
		}
		usec, _, found := p.parseTime([]byte(in))
		if !found || usec != w.UnixMicro() {
			t.Errorf("%q: %v (found %v), want %s", in, time.UnixMicro(usec).UTC(), found, want)
		}
	}
	bad := func(in string) {
		t.Helper()
		if usec, _, found := p.parseTime([]byte(in)); found {
			t.Errorf("%q: %v, want none", in, time.UnixMicro(usec).UTC())
		}
	}
	ok(at+"Z", at+"Z")
	ok(at+".123Z", at+".123Z")
	ok(at+",123Z", at+".123Z")
	ok(at+".123456789Z", at+".123456Z")
	ok(at+".12345678901234567890Z", at+".123456Z")
	ok(at+".1z", at+".1Z")
	ok("2026-11-17t08:15:30Z", at+"Z")
	ok(at+"+01:00", at+"+01:00")
	ok(at+"-0530", at+"-05:30")
	ok(at+"+02", at+"+02:00")
	ok("2026-11-17 08:15:30 +0100", at+"+01:00")
	ok("2026-11-17 08:15:30", at+"Z")
	ok("2026-11-17 08:15:30.250", at+".25Z")
	ok("2026/11/17 08:15:30", at+"Z")
	ok("20261117T081530", at+"Z")
	ok("20261117T081530.5Z", at+".5Z")
	ok("Tue Nov 17 2026 08:15:30 GMT+0100 (Central European Standard Time)", at+"+01:00")
	ok("Tue Nov 17 2026 08:15:30 GMT+0000", at+"Z")
	ok("Tue, 17 Nov 2026 08:15:30 GMT", at+"Z")
	ok("Tue, 17 Nov 2026 08:15:30 +0100", at+"+01:00")
	ok("Sun, 1 Nov 2026 08:15:30 GMT", "2026-11-01T08:15:30Z")
	ok("17/Nov/2026:08:15:30 +0100", at+"+01:00")
	ok("1794903330", at+"Z")
	ok("1794903330.5", at+".5Z")
	ok("1794903330123", at+".123Z")
	ok("1794903330123456", at+".123456Z")
	ok("1794903330123456789", at+".123456Z")
	ok("1.79490333e9", at+"Z")
	ok("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z")
	ok("2000-02-29T00:00:00Z", "2000-02-29T00:00:00Z")
	ok("2026-12-31T23:59:60Z", "2027-01-01T00:00:00Z")
	ok("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z")

	bad("")
	bad("0")
	bad("just now")
	bad("Invalid Date")
	bad("08:15:30")
	bad("2026-11-17")
	bad("2026-11-17 08:11:94")
	bad("2026-11-17T24:00:00Z")
	bad("2026-02-29T00:00:00Z")
	bad("2100-02-29T00:00:00Z")
	bad("2026-13-01T00:00:00Z")
	bad("2026-00-01T00:00:00Z")
	bad("2026-04-31T00:00:00Z")
	bad("2026-11-17T08:15:30.Z")
	bad("2026-11-17T08:15:30Z tomorrow")
	bad("2026-11-17T08:15:30+1")
	bad("2026-11-17T08:15:30+16:00")
	bad("2026-11-17T08:15:30+01:60")
	bad("2026-11/17T08:15:30Z")
	bad("Nov-17-2026 08:15:30 AM")
	bad("11/17/2026, 3:15:30 AM")
	bad("17.11.2026, 09:15:30")
	bad("Tue Nov 17 2026 08:15:30")
	bad("Tue Nov 17 08:15:30 2026")
	bad("17/Nov/2026:08:15:30")
	bad("99999999")
	bad("-1794903330")
	bad("17949033301234567890")
	bad("1794903330 s")
	bad("0x6AFD1234AB")
	bad("1_794_903_330")
}

func TestDays(t *testing.T) {
	for day := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC); day.Year() < 2105; day = day.AddDate(0, 0, 1) {
		if got := days(day.Year(), int(day.Month()), day.Day()); int64(got) != day.Unix()/86400 {
			t.Fatalf("%s: day %d, want %d", day.Format(time.DateOnly), got, day.Unix()/86400)
		}
	}
}

func TestTimestampKeys(t *testing.T) {
	eq := func(input, want string) {
		t.Helper()
		members(t, input, one(t, Options{}, line(input)), want)
	}
	eq(`_jsonrc:{"message":"m","timestamp":1794903330123}`, `{"timestamp":1794903330.123,"_app_timestamp":null}`)
	eq(`_jsonrc:{"message":"m","time":1794903330123,"ts":1}`, `{"timestamp":1794903330.123,"_time":null,"_ts":1}`)
	eq(`_jsonrc:{"message":"m","timestamp":"noon","@timestamp":"2026-11-17T08:15:30Z"}`, `{"timestamp":1794903330,"_timestamp_original":"noon","_app_timestamp":null}`)
	eq(`_jsonrc:{"message":"m","timestamp":"2026-11-17T08:15:30Z","@timestamp":"2026-11-17T09:15:30+01:00"}`, `{"timestamp":1794903330,"_app_timestamp":null}`)
	eq(`_jsonrc:{"message":"m","timestamp":"2026-11-17T08:15:30Z","@timestamp":"2026-11-17T08:15:31Z"}`, `{"timestamp":1794903330,"_app_timestamp":"2026-11-17T08:15:31Z"}`)
	eq(`_jsonrc:{"message":"m","timestamp":null,"date":"2026-11-17T08:15:30Z"}`, `{"timestamp":1794903330,"_date":null,"_timestamp_original":null}`)
	eq(`_jsonrc:{"message":"m","timestamp":{"a":1}}`, `{"timestamp":null,"_timestamp_original":null,"_timestamp_a":1}`)
	eq(`_jsonrc:{"message":"m","metadata":{"timestamp":"2026-11-17T08:15:30Z"}}`, `{"timestamp":1794903330,"_metadata_timestamp":"2026-11-17T08:15:30Z"}`)
	eq(`_jsonrc:{"message":"m","timestamp":"9999-12-31T23:59:59.999Z"}`, `{"timestamp":253402300799.999}`)
	eq(`_jsonrc:{"message":"m","timestamp":"9999-12-31T23:59:59.999-00:30"}`, `{"timestamp":null,"_timestamp_original":"9999-12-31T23:59:59.999-00:30"}`)
	eq(`<14>1 9999-12-31T23:59:59.999-00:30 h a p - - m`, `{"timestamp":null}`)
	eq(`_jsonrc:{"message":"m","t":5}`, `{"timestamp":null,"_t":5}`)
}

func TestTimestampWindow(t *testing.T) {
	const day = 86400 * usecPerSec
	p := New(Options{})
	for _, c := range []struct {
		offset int64 // of the timestamp from the entry's time
		sane   bool
	}{
		{0, true}, {-7 * day, true}, {-7*day - 1000, false}, {day, true}, {day + 1000, false},
	} {
		text := time.UnixMicro(entryTime + c.offset).UTC().Format("2006-01-02T15:04:05.000Z")
		e := &record.Entry{Message: []byte(`_jsonrc:{"message":"m","timestamp":"` + text + `"}`), TimeUsec: entryTime}
		r := p.Parse(nil, e)[0]
		want := entryTime
		if c.sane {
			want += c.offset
		}
		if r.TimeUsec != want || (r.Degraded == record.TimestampRejected) == c.sane {
			t.Errorf("%s: time %d, want %d; degraded %b", text, r.TimeUsec, want, r.Degraded)
		}
		e.TimeUsec = 0
		if r := p.Parse(nil, e)[0]; r.TimeUsec != entryTime+c.offset {
			t.Errorf("%s without an entry's time: %d", text, r.TimeUsec)
		}
	}
}

func TestTimestampWithoutZone(t *testing.T) {
	warsaw := time.FixedZone("CET", 3600)
	for _, c := range []struct {
		name  string
		zone  *time.Location
		entry int64
		text  string
		want  int64 // from entryTime, in seconds
	}{
		{"UTC is assumed", nil, 0, "2026-11-17 08:15:30", 0},
		{"UTC fits", nil, entryTime + usecPerSec, "2026-11-17 08:15:30", 0},
		{"one hour east", nil, entryTime + usecPerSec, "2026-11-17 09:15:30", 0},
		{"five and a half hours east", nil, entryTime, "2026-11-17 13:45:30", 0},
		{"eight hours west", nil, entryTime + 59*usecPerSec, "2026-11-17 00:15:30", 0},
		{"fourteen hours east", nil, entryTime, "2026-11-17 22:15:30", 0},
		{"fifteen hours are no zone", nil, entryTime, "2026-11-17 23:15:30", 15 * 3600},
		{"ten minutes late", nil, entryTime + 600*usecPerSec, "2026-11-17 08:15:30", 0},
		{"two minutes off a zone", nil, entryTime, "2026-11-17 09:17:30", 3600 + 120},
		{"configured", warsaw, entryTime + 40*60*usecPerSec, "2026-11-17 09:15:30", 0},
		{"configured, without an entry's time", warsaw, 0, "2026-11-17 09:15:30.000", 0},
		{"a zone of its own", warsaw, 0, "2026-11-17 08:15:30Z", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := &record.Entry{Message: []byte(`_jsonrc:{"message":"m","timestamp":"` + c.text + `"}`), TimeUsec: c.entry}
			r := New(Options{Zone: c.zone}).Parse(nil, e)[0]
			if got := r.TimeUsec - entryTime; got != c.want*usecPerSec {
				t.Errorf("%d s off, want %d", got/usecPerSec, c.want)
			}
		})
	}
}
