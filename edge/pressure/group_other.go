//go:build !linux

package pressure

// group is of Linux.
type group struct{ limit int64 }

func findGroup() *group { return nil }

func (*group) used() (int64, bool) { return 0, false }

// residentMemory is not known: the runtime's own figures count.
func residentMemory() (int64, bool) { return 0, false }

// totalMemory is not known: a share of it is none, bytes are.
func totalMemory() int64 { return 0 }
