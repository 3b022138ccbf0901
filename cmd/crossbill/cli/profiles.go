package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"crossbill/domain"
)

// Variables of the environment that come before the profile in use.
const (
	urlVariable     = "CROSSBILL_URL"
	keyVariable     = "CROSSBILL_API_KEY"
	profileVariable = "CROSSBILL_PROFILE"
	configVariable  = "CROSSBILL_CONFIG" // the file with the profiles
)

// defaultURL is where a platform serves that was started with no flags.
const defaultURL = "http://127.0.0.1:8080"

// profile is a platform and the key to call it with.
type profile struct {
	URL    string `json:"url"`
	APIKey string `json:"api_key"`
}

// configuration is the file of profiles. It holds keys, so that only its owner may read it.
type configuration struct {
	Current  string             `json:"current"`
	Profiles map[string]profile `json:"profiles"`
}

var profileName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,40}$`)

func configFile() (string, error) {
	if path := os.Getenv(configVariable); path != "" {
		return path, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", domain.Errorf(domain.Invalid, "cli.configFile", "there is no place for configuration: %w", err).
			WithHint("name a file in %s", configVariable)
	}
	return filepath.Join(dir, "crossbill", "profiles.json"), nil
}

// loadConfiguration reads the profiles; a file that is not there has none.
func loadConfiguration() (configuration, string, error) {
	const op = "cli.loadConfiguration"
	c := configuration{Profiles: map[string]profile{}}
	path, err := configFile()
	if err != nil {
		return c, "", err
	}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, path, nil
	}
	if err != nil {
		return c, path, domain.Errorf(domain.Invalid, op, "the profiles can't be read: %w", err).WithHint("%s", err)
	}
	if err := json.Unmarshal(content, &c); err != nil {
		return c, path, domain.Errorf(domain.Invalid, op, "%s is not a file of profiles: %w", path, err).WithHint("move it away, and set the profiles anew")
	}
	if c.Profiles == nil {
		c.Profiles = map[string]profile{}
	}
	return c, path, nil
}

// save writes the file whole or not at all.
func (c configuration) save(path string) (err error) {
	content, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".profiles-") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(content, '\n'))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// resolve says which platform to call and with which key: flags before the environment before the profile.
func (s *settings) resolve() (profile, error) {
	c, _, err := loadConfiguration()
	if err != nil {
		return profile{}, err
	}
	name := first(s.profile, os.Getenv(profileVariable), c.Current)
	p, ok := c.Profiles[name]
	if !ok && name != "" {
		return profile{}, domain.Errorf(domain.Invalid, "cli.resolve", "there is no profile %s", name).
			WithHint("`crossbill profiles set %s --url …` makes it", name)
	}
	if url := first(s.platform, os.Getenv(urlVariable)); url != "" && url != p.URL {
		p = profile{URL: url} // a profile's key is for its own platform, and shown to no other
	}
	p.URL = first(p.URL, defaultURL)
	p.APIKey = first(os.Getenv(keyVariable), p.APIKey)
	return p, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func completeProfiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	c, _, err := loadConfiguration()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return slices.Sorted(maps.Keys(c.Profiles)), cobra.ShellCompDirectiveNoFileComp
}

func profilesCommand() *cobra.Command {
	parent := &cobra.Command{
		Use:     "profiles",
		Short:   "The platforms this program calls, and the keys it calls them with",
		GroupID: groupMarket,
		Long: "A profile is a platform's address and an API key. The profiles are in " + configVariable + ", or else in the user's\n" +
			"configuration directory, readable by the user alone. " + urlVariable + ", " + keyVariable + " and " + profileVariable + " come before them.",
	}
	list := &cobra.Command{Use: "list", Short: "List the profiles; * is the one in use", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		c, _, err := loadConfiguration()
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		for _, name := range slices.Sorted(maps.Keys(c.Profiles)) {
			mark := " "
			if name == c.Current {
				mark = "*"
			}
			fmt.Fprintf(w, "%s %s\t%s\t%s\n", mark, name, c.Profiles[name].URL, keyID(c.Profiles[name].APIKey))
		}
		return w.Flush()
	}}
	set := &cobra.Command{
		Use:   "set NAME --url URL",
		Short: "Make or change a profile; the API key is read from standard input",
		Long: "Makes or changes a profile. Its API key is read from standard input, or from a file, and never from an argument, which\n" +
			"other users of the machine could see. The first profile is the one in use.",
		Args: cobra.ExactArgs(1),
	}
	url := set.Flags().String("url", "", "the platform's address")
	keyFile := set.Flags().String("api-key-file", "", "a file with the API key, such as operator.key of a platform's data directory")
	noKey := set.Flags().Bool("no-key", false, "without a key: what is public can be read")
	set.RunE = func(cmd *cobra.Command, args []string) error {
		return change(args[0], false, func(c *configuration) error {
			p := c.Profiles[args[0]]
			p.URL = first(*url, p.URL, defaultURL)
			p.APIKey = ""
			if !*noKey {
				key, err := readKey(*keyFile, cmd.InOrStdin())
				if err != nil {
					return err
				}
				p.APIKey = key
			}
			c.Profiles[args[0]] = p
			c.Current = first(c.Current, args[0])
			return nil
		})
	}
	use := &cobra.Command{Use: "use NAME", Short: "Use a profile from now on", Args: cobra.ExactArgs(1), ValidArgsFunction: completeProfiles, RunE: func(_ *cobra.Command, args []string) error {
		return change(args[0], true, func(c *configuration) error { c.Current = args[0]; return nil })
	}}
	remove := &cobra.Command{Use: "remove NAME", Short: "Remove a profile and its key from this machine", Args: cobra.ExactArgs(1), ValidArgsFunction: completeProfiles, RunE: func(_ *cobra.Command, args []string) error {
		return change(args[0], true, func(c *configuration) error {
			delete(c.Profiles, args[0])
			if c.Current == args[0] {
				c.Current = ""
			}
			return nil
		})
	}}
	parent.AddCommand(list, set, use, remove)
	return parent
}

// change changes the file of profiles. there says that the profile must be in it already.
func change(name string, there bool, do func(*configuration) error) error {
	const op = "cli.profiles"
	if !profileName.MatchString(name) {
		return domain.Errorf(domain.Invalid, op, "%q is no name for a profile", name).WithHint("1 to 40 letters, digits, dots, dashes and underscores")
	}
	c, path, err := loadConfiguration()
	if err != nil {
		return err
	}
	if _, ok := c.Profiles[name]; there && !ok {
		return domain.Errorf(domain.NotFound, op, "there is no profile %s", name)
	}
	if err := do(&c); err != nil {
		return err
	}
	if err := c.save(path); err != nil {
		return domain.Errorf(domain.Invalid, op, "the profiles can't be written: %w", err).WithHint("%s", err)
	}
	return nil
}

func readKey(file string, stdin io.Reader) (string, error) {
	const op = "cli.profiles"
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return "", domain.Errorf(domain.Invalid, op, "the key can't be read: %w", err).WithHint("%s", err)
		}
		defer f.Close()
		stdin = f
	}
	line, err := bufio.NewReader(io.LimitReader(stdin, 1<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", domain.Errorf(domain.Invalid, op, "the key can't be read: %w", err)
	}
	key := strings.TrimSpace(line)
	if keyID(key) == "" {
		return "", domain.Errorf(domain.Invalid, op, "that is no API key").WithHint("a key begins with cbk_")
	}
	return key, nil
}

// keyID is the part of a key that is no secret: its id. It is "" for what is no key.
func keyID(key string) string {
	parts := strings.Split(key, "_")
	if len(parts) < 3 || parts[0] != "cbk" {
		return ""
	}
	return "key_" + parts[1]
}
