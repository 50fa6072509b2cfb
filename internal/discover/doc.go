// Package discover finds the services of this machine that say how they want to
// be watched: units of systemd with an [X-Healthd] section. It follows them by the
// signals that systemd sends over D-Bus (org.freedesktop.systemd1(5)): units that
// come and go, unit files that change, states, restarts. It does not poll, starts
// no process, and changes nothing.
//
// systemd ignores sections whose name begins with X- (systemd.unit(5)), so the
// section lives in the unit file itself or in a drop-in, and a service that is
// deployed is watched without a second configuration to remember:
//
//	[X-Healthd]
//	Health=http://127.0.0.1:30%i/health
//	Workers=01..10
//	Critical=yes
//	Public=Payments
//
// What a check of the URL means is not known here, nor is what follows from it.
package discover
