package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/golang-jwt/jwt/v5"

	"bulkhead/cluster"
)

// claims are those that are looked at (docs/tokens.md).
type claims struct {
	Ten                  *names
	Name                 *names
	Names                *names
	Params               json.RawMessage
	Secrets              *string // as ectx has them
	Code                 any
	URL                  any
	Limits               *tokenLimits
	Container, Token     [windows]allowed // ls lm …, lts ltm …
	jwt.RegisteredClaims                  // of which exp, nbf, iat and jti are looked at
}

// UnmarshalJSON reads claims by their exact names, each once.
func (c *claims) UnmarshalJSON(b []byte) error {
	all, err := members(b)
	if err != nil {
		return err
	}
	var exp, nbf, iat moment
	into := map[string]any{
		"ten": &c.Ten, "jtn": &c.Name, "jtnm": &c.Names, "pctx": &c.Params, "ectx": &c.Secrets, "code": &c.Code, "url": &c.URL, "limits": &c.Limits,
		"exp": &exp, "nbf": &nbf, "iat": &iat, "jti": &c.ID,
	}
	quotaClaims(containerClaims, &c.Container, into)
	quotaClaims(tokenClaims, &c.Token, into)
	err = take(all, into)
	c.ExpiresAt, c.NotBefore, c.IssuedAt = exp.at, nbf.at, iat.at
	return err
}

// functions joins jtn and jtnm; nil when neither narrows the token.
func (c *claims) functions() *names {
	if c.Name == nil || c.Names == nil {
		if c.Name != nil {
			return c.Name
		}
		return c.Names
	}
	return &names{list: slices.Concat(c.Name.list, c.Names.list), patterns: slices.Concat(c.Name.patterns, c.Names.patterns)}
}

// names is a claim that holds a name, a list of names, or a /regex/ over the
// whole of a name.
type names struct {
	list     []string
	patterns []*regexp.Regexp
}

func (n *names) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		return n.add(one)
	}
	var many []string
	if err := json.Unmarshal(b, &many); err != nil {
		return errors.New("want a name, a list of names or a /regex/")
	}
	for _, s := range many {
		if err := n.add(s); err != nil {
			return err
		}
	}
	return nil
}

func (n *names) add(s string) error {
	if len(s) < 2 || s[0] != '/' || s[len(s)-1] != '/' {
		n.list = append(n.list, s)
		return nil
	}
	re, err := regexp.Compile(`^(?:` + s[1:len(s)-1] + `)$`)
	if err != nil {
		return fmt.Errorf("%q is no regular expression", s)
	}
	n.patterns = append(n.patterns, re)
	return nil
}

func (n *names) has(name string) bool {
	if n == nil {
		return false
	}
	return slices.Contains(n.list, name) || slices.ContainsFunc(n.patterns, func(re *regexp.Regexp) bool { return re.MatchString(name) })
}

// tokenLimits is the claim that lowers limits for a token's requests. A member
// that is not known is refused: who wrote it counts on it.
type tokenLimits struct{ cluster.LowerLimits }

func (l *tokenLimits) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(&l.LowerLimits)
	switch {
	case err != nil:
		return fmt.Errorf("limits: %w", err)
	case l.Block != 0 || l.CPU != 0 || l.Background != 0:
		return errors.New("limits: a token has wall, body, rate and concurrency; the others are a process's")
	case l.Wall < 0 || l.Body < 0 || l.Rate < 0 || l.Concurrency < 0:
		return errors.New("limits: none may be below 0")
	}
	return nil
}
