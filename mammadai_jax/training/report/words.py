"""Plain names for the numbers on the page, and what they mean."""

from __future__ import annotations

# name in `mammadai_jax.music.statistics.table`: (name for readers, what it means)
STATISTICS = {
    "melodies": ("Melodies measured", "How many melodies the column is computed from."),
    "note_count": ("Notes in a melody", "How many notes are struck in a melody, on average."),
    "note_density": ("Notes in a bar", "How many notes are struck in a bar, on average."),
    "rest_rate": ("Silence", "Share of the time in which nothing sounds: 0 never, 1 always."),
    "pitch_count": ("Different pitches", "How many different pitches a melody uses, on average."),
    "pitch_range": ("Range", "Semitones from the lowest to the highest note; an octave is 12."),
    "average_interval": ("Average interval", "Mean semitones between neighbouring notes: 1 or 2 is a step."),
    "average_inter_onset": (
        "Time between notes",
        "Mean number of sixteenths from the beginning of one note to the beginning of the next.",
    ),
    "out_of_scale_rate": ("Notes outside the key", "Share of the notes outside the key that fits best."),
    "distinct": ("Different melodies", "Share of the melodies that differ from all others of the set."),
    "self_overlap": (
        "Three-note runs that repeat",
        "Share of a melody's three-note runs that another melody of the set has too.",
    ),
    "copied_notes": (
        "Longest copied run",
        "The longest run of notes that a melody copies from the tunes, in any key; mean over the melodies.",
    ),
    "copied_notes_max": ("Longest copied run of all", "The longest run of notes that any melody copies."),
    "copied_share": ("Copied share", "The longest copied run as a share of its melody's notes; mean."),
    "ngram_overlap": (
        "Three-note runs of the tunes",
        "Share of three-note runs that the tunes have too.",
    ),
    "overlap_area": (
        "Likeness to the tunes",
        "Mean overlap area over all features (Yang & Lerch 2018): 1 if the melodies are as far from the "
        "tunes as the tunes are from one another, 0 if the two kinds of distances have nothing in common.",
    ),
    "kl": (
        "Distance from the tunes",
        "Kullback-Leibler divergence in nats (Yang & Lerch 2018): 0 if the melodies are as far from the "
        "tunes as the tunes are from one another; the larger, the less alike.",
    ),
    "pitch_class_histogram": ("Notes used", "Share of the sounding time of C, C sharp, D..."),
    "pitch_class_transitions": (
        "Moves between notes",
        "How often each note name is followed by each other one.",
    ),
    "note_length_histogram": ("Note lengths", "Shares of whole notes, halves, quarters..."),
    "note_length_transitions": (
        "Moves between lengths",
        "How often each note length is followed by each other one.",
    ),
}
# The rules of music theory and RL Tuner's measures.
THEORY = {
    "theory": ("All rules together", "The sum of the rules' rewards, each times its weight."),
    "key": ("Stays in the key", "A penalty of 1 for each note outside the key."),
    "tonic": ("Begins and ends on the tonic", "3 where a piece begins on middle C, and where it ends on it."),
    "penalize_repeating": ("No endless repetition", "A penalty of 100 for one repetition too many."),
    "penalize_autocorrelation": (
        "Not correlated with itself",
        "A penalty for a melody that resembles itself one, two or three sixteenths later.",
    ),
    "motif": ("Motifs", "3 or more where half a bar has at least three different pitches."),
    "repeated_motif": ("Motifs that return", "4 or more where the same motif was played before."),
    "preferred_intervals": (
        "Preferred intervals",
        "Small rewards for steps, thirds, fourths, fifths and rests.",
    ),
    "leap_up_back": (
        "Leaps that come back",
        "5 where a leap is followed by a return, -5 where a second leap goes on in the same direction.",
    ),
    "high_low_unique": (
        "One highest, one lowest note",
        "3 if the highest note occurs once, 3 if the lowest does; given with the last note.",
    ),
    "weak_sixteenth": ("Notes between eighths", "A penalty of 1 for each note that begins between eighths."),
    "off_beat": ("Syncopations", "A penalty of 1 for a note off the beat, after a beat on which none began."),
    "phrase_end": ("Phrases come to rest", "1 for every fourth bar in whose last beat no note begins."),
    "cadence": ("Closes", "1 for a last note that is the tonic, on a strong beat, and a quarter or longer."),
    "log_prior": (
        "Log-probability under the prior",
        "How well the notes fit what the prior learned: mean over its decisions, in nats, 0 is certain.",
    ),
    "num_repeated_notes": ("Steps repeated too often", "Share of the steps."),
    "autocorrelation1": ("Autocorrelation, one step later", "Mean over the melodies."),
    "autocorrelation2": ("Autocorrelation, two steps later", "Mean over the melodies."),
    "autocorrelation3": ("Autocorrelation, three steps later", "Mean over the melodies."),
    "notes_not_in_key": ("Steps not in the key", "Share of the steps that are not in C major."),
    "num_starting_tonic": ("Start with the tonic", "Share of the melodies that begin on middle C."),
    "leaps_resolved": (
        "Leaps resolved",
        "Resolved leaps as a share of those that are resolved or followed by another leap the same way.",
    ),
    "num_high_unique": ("Unique highest note", "Share of the melodies whose highest note occurs once."),
    "num_low_unique": ("Unique lowest note", "Share of the melodies whose lowest note occurs once."),
    "notes_in_motif": ("Steps in a motif", "Share of the steps that end a motif of eight steps."),
    "notes_in_repeated_motif": (
        "Steps in a repeated motif",
        "Share of the steps that end a motif which was played before.",
    ),
}
# The rules of harmony, and what else is measured of pieces of several voices.
HARMONY = {
    "parallel_fifths": (
        "Parallel fifths",
        "Two voices move alike from a fifth to a fifth.",
    ),
    "parallel_octaves": ("Parallel octaves", "Two voices move alike from an octave or unison to one."),
    "contrary_fifths": ("Fifths in contrary motion", "Two voices move apart or together between fifths."),
    "contrary_octaves": ("Octaves in contrary motion", "Two voices move apart or together between octaves."),
    "hidden_fifths": ("Hidden fifths", "The outer voices move alike into a fifth, the upper one by a leap."),
    "hidden_octaves": ("Hidden octaves", "The outer voices move alike into an octave, the upper by a leap."),
    "crossing": ("Voices that cross", "A voice moves below the one that is written below it."),
    "overlap": ("Voices that overlap", "A voice moves beyond where its neighbour was before."),
    "spacing": ("Voices too far apart", "Neighbouring upper voices are more than an octave apart."),
    "voice_ranges": ("Outside the range", "A note is outside the range of its voice."),
    "bad_leaps": ("Bad leaps", "A voice leaps by a tritone or a seventh."),
    "wide_leaps": ("Wide leaps", "A voice leaps by more than an octave."),
    "unresolved_dissonance": (
        "Unresolved dissonances",
        "Two voices leave a second, seventh or tritone, and neither moves by step.",
    ),
    "unjustified_dissonance": (
        "Unprepared dissonances",
        "Neither voice of a dissonance comes to it by step or is held, and leaves it by step.",
    ),
    "doubled_leading_tone": ("Doubled leading tones", "A second voice takes the note below the tonic."),
    "unresolved_sevenths": ("Unresolved sevenths", "The seventh of a chord is not left by a step down."),
    "repeated_chords": ("Chords that stand", "The same chord goes on for half a bar or more."),
    "cadence": (
        "Cadences",
        "Two bars end with a triad that the bass reaches by a fourth or fifth.",
    ),
    "final_tonic": ("Ends on the tonic", "The piece ends with the tonic's triad in root position."),
    "chord_entropy": (
        "Variety of the chords",
        "Entropy of all chords together in nats: 0 if there is only one.",
    ),
}
LISTENING = {
    "preferred": ("Preferred", "Share of the decided comparisons in which this melody was chosen."),
    "gold": (
        "What they are worth to listeners",
        "Mean utility to simulated listeners who took no part in the training.",
    ),
    "claims": ("Prompt fulfilled", "Share of what the prompt asks for that the notes fulfil; mean."),
    "likeness": (
        "Likeness to the prompt",
        "Mean cosine of the embeddings of the prompt and of its melody; 1 is the most alike.",
    ),
}
# By kind of repetition: of passages that return, of pairs of bars, and what it means.
_ALIKE = {
    "equal": ("{} that return", "Same", "the same notes at the same places"),
    "sequence": (
        "{} that return, also moved along the scale",
        "Same or moved along the scale",
        "the same rhythm, and intervals equal to a semitone",
    ),
    "rhythm": ("{} whose rhythm returns", "Same rhythm", "notes and silences at the same places"),
}
_APART = {1: "one bar later", 2: "two bars later", 4: "four bars later"}
# How musical melodies are, see `mammadai_jax.music.statistics.musicality`.
MUSICALITY = {
    "musicality_distance": (
        "Distance to real tunes",
        "Mean over all aspects of how far the measures' means are from those of real tunes, in standard "
        "deviations of the tunes; the tunes' own is that of one half of them from the other.",
    ),
    "onsets_on_beats": (
        "Notes on beats",
        "Share of the notes that begin on a quarter note of the bar, in 6/8 on a dotted quarter.",
    ),
    "onsets_on_weak_sixteenths": (
        "Notes on weak sixteenths",
        "Share of the notes that begin between eighth notes.",
    ),
    "meter_agreement": (
        "Agreement with the meter",
        "Mean metrical weight of the notes' places: 1 if all are downbeats, 0 if they ignore the meter.",
    ),
    **{
        f"repeated_bars_{kind}": (
            name.format("Bars"),
            f"Share of the first eight bars that repeat an earlier one: {meaning}.",
        )
        for kind, (name, _, meaning) in _ALIKE.items()
    },
    **{
        f"repeated_phrases_{kind}": (
            name.format("Phrases"),
            f"Share of the phrases of two bars in the first eight that repeat an earlier one: {meaning}.",
        )
        for kind, (name, _, meaning) in _ALIKE.items()
    },
    **{
        f"bars_{kind}_{apart}": (f"{name} {later}", f"Share of the pairs of bars {apart} apart: {meaning}.")
        for kind, (_, name, meaning) in _ALIKE.items()
        for apart, later in _APART.items()
    },
    "phrase_symmetry": (
        "Phrases that answer each other",
        "Places at which a note begins in both of two neighbouring phrases of four bars, as a share of those "
        "in either.",
    ),
    "phrase_ends": (
        "Phrases that come to rest",
        "Share of the phrases of four bars that end with their longest note.",
    ),
    "ends_long": ("Ends with a long note", "Share: a beat or more, and longer than the others on average."),
    "ends_on_strong_beat": (
        "Ends on a strong beat",
        "Share: the last note begins a bar, or its second half in 4/4 and 6/8.",
    ),
    "ends_on_tonic": ("Last note is the tonic", "Share; the final of a mode is its tonic."),
    "full_close": ("Full close", "Share whose last note is long, on a strong beat and the tonic."),
    "cadence_approach": (
        "Close by step or fifth",
        "Share whose last pitch is reached by step, or from the fifth above it in any octave.",
    ),
    "key_clarity": ("Clarity of the key", "Best correlation with the profile of a key; 1 is the clearest."),
    "notes_per_quarter": ("Notes in a quarter note", "How many notes begin in that time, on average."),
    "rhythm_entropy": (
        "Variety of the rhythm",
        "Entropy in bits of the times from note to note; 0 if all are equal.",
    ),
    "leaps": ("Leaps", "Share of the intervals that are a fifth or more."),
    "repeated_notes": ("Repeated notes", "Share of the notes with the pitch of the one before."),
    "silence_at_start": ("Silence at the start", "Bars before the first note, but for an upbeat's."),
    "consonance_on_beats": (
        "Consonance on beats",
        "Share of the beats without a second, seventh or tritone between melody and accompaniment.",
    ),
}
# Titles of the learning curves; docs/metrics.md says what each metric is.
CURVES = {
    "accuracy": "Share right",
    "bits": "Bits a step",
    "held_out_bits": "Bits a step, held-out music",
    "nats": "Nats for each note",
    "cosine": "Cosine of matching pairs",
    "scale": "Scale of the cosines",
    "loss": "Loss",
    "grad_norm": "Gradient norm",
    "lr": "Learning rate",
    "minibatches": "Minibatches used",
    "episode": "Melodies so far",
    "entropy": "Entropy of what is played",
    "kl": "Divergence from the cloned policy",
    "kl_coef": "KL coefficient",
    "reward": "Reward for each note",
    "return": "Reward for each melody",
    "rest_rate": "Silence",
    "disc_loss": "Discriminator: loss",
    "disc_acc": "Discriminator: share right",
    "disc_acc_expert": "Discriminator: share right of the tunes' notes",
    "disc_acc_gen": "Discriminator: share right of the policy's notes",
    "disc_entropy": "Discriminator: entropy",
    "gradient_penalty": "Discriminator: gradient penalty",
    "explained_variance": "Variance explained by the value",
    "loss/policy_avg": "Policy loss",
    "loss/value_avg": "Value loss",
    "policy/approxkl_avg": "Change of the policy in an update (KL)",
    "policy/clipfrac_avg": "Share of clipped ratios",
    "policy/entropy_avg": "Entropy of the policy, for each note",
    "val/ratio": "Mean probability ratio",
    "val/ratio_var": "Variance of the probability ratio",
    "objective/kl": "Divergence from the reference, for each melody",
    "objective/entropy": "Entropy of the policy, for each melody",
    "objective/scores": "Score for each melody",
    "objective/non_score_reward": "KL penalty for each melody",
    "objective/rlhf_reward": "Score less KL penalty",
    "reward/preference": "Score of the reward model",
    "reward/adherence": "Likeness to the prompt",
    "reward/variety": "Variety",
    "reward/claims": "Claims of the prompt that hold",
    "margin": "Margin of the chosen melody",
    "mean_reward": "Mean reward",
    "min_reward": "Least reward",
    "max_reward": "Largest reward",
    "nu": "Weight of ties",
    "skipped_updates": "Updates skipped: not finite",
}
# Prefixes of curves that are folded away, with the title of their fold.
FOLDS = {
    "rules": "Rules, one by one",
    "reward": "Terms of the score, one by one",
    "loss": "How the optimisation goes",
    "policy": "How the optimisation goes",
    "val": "How the optimisation goes",
}


def words(name: str) -> tuple[str, str]:
    """Plain name and meaning of a statistic "NAME" or "PREFIX/NAME"; unknown ones are only made readable."""
    feature = name.rpartition("/")[2]
    return (STATISTICS | THEORY | HARMONY | LISTENING | MUSICALITY).get(feature, (_readable(feature), ""))


def curve_title(name: str) -> str:
    """What a metric's learning curve is called."""
    return CURVES.get(name) or CURVES.get(name.rpartition("/")[2]) or words(name)[0]


def fold_title(name: str) -> str:
    """The title of the fold that a metric's curve is in; "" if it is not folded away."""
    prefix = name.rpartition("/")[0]
    return FOLDS.get(prefix, "" if prefix in ("", "objective") else _readable(prefix))


def _readable(name: str) -> str:
    name = name.replace("_", " ").replace("/", ": ")
    return name[:1].upper() + name[1:]
