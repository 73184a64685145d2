package command

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"reecho/broker/operator"
)

// asker asks before what an operator does to its cluster.
func (c *cluster) asker(o *operator.Operator) operator.Confirm {
	return func(what string) error { return c.ask(o.Cluster(), what) }
}

// ask has whoever gave a command type the cluster's name, so that it is not given to
// another cluster than was meant, nor by a slip.
func (c *cluster) ask(name, what string) error {
	c.lines.clear()
	fmt.Fprintln(c.Stderr, what)
	switch {
	case c.confirm == name:
		return nil
	case c.confirm != "":
		return fmt.Errorf("%w: --confirm says %q, and this is cluster %q: nothing was changed", operator.ErrRefused, c.confirm, name)
	case !isTerminal(c.Stdin):
		return fmt.Errorf("%w: it has to be confirmed: --confirm %s; nothing was changed", operator.ErrRefused, name)
	}
	fmt.Fprintf(c.Stderr, "Type the name of the cluster, %s, to do it: ", name)
	line, err := bufio.NewReader(c.Stdin).ReadString('\n')
	if strings.TrimSpace(line) != name {
		return errors.Join(fmt.Errorf("%w: that is not the name of the cluster; nothing was changed", operator.ErrRefused), err)
	}
	return nil
}
