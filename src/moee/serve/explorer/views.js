// The views of a text, in the order of the server, and how the page speaks of them.

export const VIEWS = {
  hs: { short: "HS", label: "Conclusion", long: "What it concluded (HS)", phrase: "what the model concluded" },
  rw: { short: "RW", label: "Route", long: "How it got there (RW)", phrase: "how it got there" },
  tokens: {
    short: "Tokens",
    label: "Tokens",
    long: "What it made of each token",
    phrase: "what it made of each token",
  },
  lexical: { short: "Words", label: "Words", long: "The words themselves", phrase: "the wording" },
};

/** The names of the views. */
export const VIEW_NAMES = Object.keys(VIEWS);
