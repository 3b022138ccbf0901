package datapath

// FoundRight reports whether the last Ensure of a connection went by what List had seen, and left the connection alone.
func (d *Datapath) FoundRight(tag int) bool { return d.survey != nil && d.survey.ends[tag] != nil }

// SettingsOf lists an interface's settings in /proc/sys/net as they are to be.
func SettingsOf(name string) (paths map[string]int32) {
	paths = map[string]int32{}
	for at, settings := range map[string][]setting{"ipv4/conf/": ipv4Settings, "ipv6/conf/": append(ipv6Settings, forceForwarding...)} {
		for _, s := range settings {
			paths[at+name+"/"+s.key] = s.value
		}
	}
	return paths
}
