//go:build unix

package command

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminal reports whether somebody looks at a file, or types into it: /dev/null is a
// device too, and has no size.
func terminal(file *os.File) bool {
	_, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	return err == nil
}
