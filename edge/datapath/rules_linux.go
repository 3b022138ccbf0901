package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ownRule sends what the node itself sends from a connection's address into the connection's table. "iif lo" keeps
// passing packets with a forged source out of it.
func ownRule(tag int, own netip.Addr) *netlink.Rule {
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Table = familyOf(own), PriorityOwn, TableNumber(tag)
	rule.IifName = "lo"
	rule.Src = ipNet(netip.PrefixFrom(own, own.BitLen()))
	return rule
}

// gateRule lets what came in through one side be routed by the connection's table.
func gateRule(family, tag int, side Side) *netlink.Rule {
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Table = family, PriorityGate, TableNumber(tag)
	rule.IifName = InterfaceName(tag, side)
	return rule
}

// wallRule ends the lookup for packets that came in through any connection and that no open gate took.
func wallRule(family int) *netlink.Rule {
	rule := netlink.NewRule()
	mask := MarkMask
	rule.Family, rule.Priority, rule.Type = family, PriorityWall, unix.RTN_BLACKHOLE
	rule.Mark, rule.Mask = MarkBase, &mask
	return rule
}

// addRule adds a rule and reports whether it was missing.
func (d *Datapath) addRule(rule *netlink.Rule) (added bool, err error) {
	err = d.netlink.RuleAdd(rule)
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("rule %d: %w", rule.Priority, err)
	}
	return true, nil
}

// deleteRule deletes every copy of a rule.
func (d *Datapath) deleteRule(rule *netlink.Rule) error {
	for range maxCopies {
		if err := d.netlink.RuleDel(rule); err != nil {
			if err := ignoreMissing(err); err != nil {
				return fmt.Errorf("rule %d: %w", rule.Priority, err)
			}
			return nil
		}
	}
	return fmt.Errorf("rule %d has more than %d copies", rule.Priority, maxCopies)
}

// maxCopies bounds the deletion of copies; the kernel refuses to add a second one, other tools may force it.
const maxCopies = 16

// setGateRules lets the stack route for a connection in the families it carries, of none for a closed gate.
func (d *Datapath) setGateRules(tag int, carried []int) error {
	for _, family := range families {
		for _, side := range []Side{SideA, SideZ} {
			if !slices.Contains(carried, family) {
				if err := d.deleteRule(gateRule(family, tag, side)); err != nil {
					return err
				}
				continue
			}
			if _, err := d.addRule(gateRule(family, tag, side)); err != nil {
				return err
			}
		}
	}
	return nil
}

// allRules lists the rules of both families.
func (d *Datapath) allRules() (all []netlink.Rule, err error) {
	for _, family := range families {
		some, err := d.netlink.RuleList(family)
		if err != nil {
			return nil, fmt.Errorf("rules: %w", err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// byTag sorts out the rules that belong to connections.
func byTag(all []netlink.Rule) map[int][]netlink.Rule {
	rules := map[int][]netlink.Rule{}
	for _, rule := range all {
		owner := rule.Table - TableBase
		if owner < MinTag || owner > MaxTag {
			owner = tagOfName(rule.IifName)
		}
		if owner != 0 {
			rules[owner] = append(rules[owner], rule)
		}
	}
	return rules
}

// rulesOf lists the rules that belong to one connection.
func (d *Datapath) rulesOf(tag int) ([]netlink.Rule, error) {
	all, err := d.allRules()
	return byTag(all)[tag], err
}

// pruneOwnRules removes the rules of addresses the connection no longer has.
func (d *Datapath) pruneOwnRules(c Connection, seen *survey) error {
	var rules []netlink.Rule
	if seen != nil {
		rules = seen.rules[c.Tag]
	} else {
		var err error
		if rules, err = d.rulesOf(c.Tag); err != nil {
			return err
		}
	}
	var current []string
	for _, a := range c.sides() {
		for _, l := range a.links() {
			current = append(current, ownRule(c.Tag, l.Address.Addr()).Src.String())
		}
	}
	for _, rule := range rules {
		if rule.Priority == PriorityOwn && (rule.Src == nil || !slices.Contains(current, rule.Src.String())) {
			if err := d.deleteRule(&rule); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Datapath) removeRules(tag int) error {
	rules, err := d.rulesOf(tag)
	if err != nil {
		return err
	}
	var problems []error
	for _, rule := range rules {
		problems = append(problems, d.deleteRule(&rule))
	}
	return errors.Join(problems...)
}

func (d *Datapath) removeWall() error {
	var problems []error
	for _, family := range families {
		problems = append(problems, d.deleteRule(wallRule(family)))
	}
	return errors.Join(problems...)
}
