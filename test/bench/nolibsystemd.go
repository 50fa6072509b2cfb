//go:build !sdjournal

package main

// libsystemdReaders returns none: they need cgo and the tag sdjournal.
func libsystemdReaders() []reader { return nil }
