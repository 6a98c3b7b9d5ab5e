"""The text of MODEL_CARD.md for a checkpoint made by train_demo.py."""


def state_bytes(config: dict) -> dict[str, int]:
    """Bytes of one sequence's recurrent state in fp32, by kind of mixer.

    Linear attention keeps S and z over packed features, the window its last W//2 rotated key and
    value rows, a convolution the last two rows of its 2d-wide input.
    """
    d, layers = config["n_embd"], config["n_layer"]
    linear, window = config["alt_mixer_layers"], config["alt_mixer_2_layers"]
    heads, features = config["alt_mixer"]["num_heads"], config["alt_mixer"]["feature_dim"]
    packed = 1 + features + features * (features + 1) // 2
    conv_inner = config["mixer"]["expand_proj"] * d // 2
    conv_layers = layers - len(linear) - len(window)
    return {
        "linear attention (S and z, packed)": 4 * len(linear) * heads * packed * (d // heads + 1),
        "window ring": 4 * len(window) * (config["alt_mixer_2"]["window_size"] // 2) * 2 * d,
        "convolution taps": 4 * conv_layers * 2 * conv_inner,
    }


def _layer_names(config: dict) -> str:
    def kind(index: int) -> str:
        if index in config["alt_mixer_2_layers"]:
            return "window"
        return "linear" if index in config["alt_mixer_layers"] else "conv"

    return ", ".join(kind(i) for i in range(config["n_layer"]))


def render(config: dict, facts: dict) -> str:
    """`facts`: parameters, file_bytes, train_tokens, dropout, lr, weight_decay, batch, window,
    steps, tokens, seconds, machine, bits_per_byte (or None), samples (list of str)."""
    state = state_bytes(config)
    state_rows = "\n".join(f"| {name} | {size:,} |" for name, size in state.items())
    quality = (
        f"{facts['bits_per_byte']:.4f} bits per byte on the held-out text"
        if facts["bits_per_byte"] is not None
        else "not measured (no `--valid` text)"
    )
    samples = "\n\n".join("> " + text.replace("\n", "\n> ") for text in facts["samples"])
    linear, window = config["alt_mixer"], config["alt_mixer_2"]
    return f"""# Demo model

A small BASED language model with all three mixers, for trying the server on any machine. It
continues English prose in the manner of nineteenth-century novels.

| | |
| --- | --- |
| parameters | {facts['parameters']:,} (bf16, {facts['file_bytes']:,} bytes) |
| layers | {_layer_names(config)} |
| width | {config['n_embd']}; inner width {config['n_inner']} |
| linear attention | {linear['num_heads']} heads, feature_dim {linear['feature_dim']} |
| window attention | {window['num_heads']} heads, window_size {window['window_size']} \
({window['window_size'] // 2 + 1} keys) |
| quality | {quality} |
| training | {facts['tokens']:,} tokens ({facts['tokens'] / facts['train_tokens']:.1f} epochs), \
{facts['steps']:,} steps, {facts['seconds'] / 60:.1f} minutes on one {facts['machine']} |

## Data

45 public-domain English novels (Austen, the Brontës, Cervantes, Collins, Dickens, Dostoevsky,
Doyle, Dumas, Eliot, Hardy, Hawthorne, Hugo, Joyce, Melville, Stevenson, Thackeray, Tolstoy,
Trollope, Twain, Wilde; some in translation) and excerpts from Shakespeare's plays, 61,365,157
bytes, {facts['train_tokens']:,} tokens. The texts are in the public domain. Held out, and never
trained on: Emma, Persuasion, Frankenstein and Hard Times, 2,374,022 bytes.

Bits per byte: windows of 1,024 tokens that do not overlap, each fresh after the end-of-text token,
every token scored; the sum of -log2 p divided by the bytes of the text. Computed in fp32 from the
bf16 weights of this folder.

## Tokenizer

Byte-level BPE with the GPT-2 pre-tokenizer, {config['vocab_size']:,} ids, trained on the same
text. `<|endoftext|>` is id {config['eos_token_id']} and serves as begin and end of text.

## State per sequence

| fp32 | bytes |
| --- | --- |
{state_rows}
| total, whatever the length | {sum(state.values()):,} |

## Training

`models/train_demo.py --train FILE --valid FILE --out DIR`: windows of {facts['window']:,} tokens
after the end-of-text token at offsets that move every epoch, {facts['batch']} of them a step; Muon
for the matrices and AdamW for the rest, peak learning rate {facts['lr']:g} (AdamW half of it),
weight decay {facts['weight_decay']:g}, dropout {facts['dropout']:g}; a straight line to zero after
a short warm-up; bf16 autocast over fp32 weights.

## Limits

It knows nothing but the style of its novels: expect sentences, not facts, instructions or sense
over more than a paragraph. It was trained on windows of {facts['window']:,} tokens that all begin
after end of text, so it seldom ends a text by itself, and it inherits the views of its authors'
century.

## Samples

Temperature 0.8, top_p 0.95; the first words are the prompt.

{samples}
"""
