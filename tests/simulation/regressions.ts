import type { Profile } from "./profiles.ts";

/** Seeds that once failed for one reason. */
export interface Regression {
  readonly was: string;
  readonly profile: Profile;
  readonly seeds: readonly number[];
  /** Whether the settings were unusual. */
  readonly isUnusual?: boolean;
}

/** What simulations have found. */
export const regressions: readonly Regression[] = [
  {
    was: "a caller waits its whole timeout again for the local limiter, after the store could not be opened",
    profile: "everything",
    seeds: [81, 161, 606, 664, 698, 751, 973, 1_010, 1_129],
  },
  {
    was: "a caller whose time has gone into opening the store waits as one who does not want to wait",
    profile: "slow",
    seeds: [1_275, 1_310, 1_523, 1_570],
  },
  {
    was: "a clock believes in a sample from before its process was stopped",
    profile: "everything",
    seeds: [1_249],
  },
  {
    was: "a caller is granted after its timeout, as what was granted just before counts for when the answer is here",
    profile: "slow",
    seeds: [500_115, 500_275, 500_348],
  },
  {
    was: "a write whose copy was refused is done again, and gives back twice",
    profile: "lossy",
    seeds: [1_007_197, 1_706],
  },
  {
    was: "the mark of a process where nobody waits any more keeps a permit from the others",
    profile: "calm",
    seeds: [1_013_926],
  },
  {
    was: "one process wins turn after turn, as it alone knows what stands in the store",
    profile: "crowd",
    seeds: [1_010_511, 5_008_265],
  },
  {
    was: "a revision of a lost history is taken for the same one of the new history",
    profile: "amnesia",
    seeds: [1_003_635],
  },
  {
    was: "a caller misses one slot after the other, as each answer takes longer than expected",
    profile: "slow",
    seeds: [385, 1_027, 2_452],
  },
  {
    was: "who waits behind one that has gone is forgotten when an earlier write turns out to stand there",
    profile: "lossy",
    seeds: [2_031_961],
  },
  {
    was:
      "a permit stays free, as the hint that it is came while its reader was about to be told what stood there before",
    profile: "steady",
    seeds: [7_039_833],
  },
  {
    was: "a clock that was measured over a slow line, when the store was opened, is believed for two seconds",
    profile: "outages",
    seeds: [8_001_629],
  },
  {
    was: "what others take or release in the moment in which a caller's time ends makes the store look slow",
    profile: "calm",
    seeds: [7_015_453, 8_002_715],
  },
  {
    was: "a caller misses one slot after the other, as each write is known only after it was asked for several times",
    profile: "slow",
    seeds: [7_025_319, 8_014_223],
  },
  {
    was:
      "permits that were granted on the way to somebody who had stopped to wait are taken for given back, and are not",
    profile: "slow",
    seeds: [8_022_239],
  },
  {
    was: "a process that stood still takes that for the time an answer takes, and reserves as far ahead",
    profile: "local",
    seeds: [13_006_121, 13_048_817, 15_318_680],
  },
  {
    was: "timers that are later than a window allows miss one slot after the other",
    profile: "calm",
    seeds: [7_229],
  },
  {
    was: "where answers take longer than slots are reserved ahead, each answer grants a single one",
    profile: "slow",
    seeds: [14_016_986, 15_046_214],
  },
  {
    was: "the same, while answers get lost",
    profile: "lossy",
    seeds: [8_002_765],
  },
  {
    was: "a lease that is renewed in the moment in which a caller's time ends makes the store look silent",
    profile: "calm",
    seeds: [15_052_746],
  },
  {
    was:
      "who looks often, as it renews its leases, takes that for turns that went to others, and wins window after window",
    profile: "crowd",
    seeds: [15_728_163],
  },
  {
    was: "who is far from the store reads what was written, leaves room for others then, and loses window after window",
    profile: "scattered",
    seeds: [16_001_771, 16_002_523],
  },
  {
    was: "what another process gives back in the moment in which a caller's time ends makes the store look silent",
    profile: "calm",
    seeds: [16_319_807],
  },
  {
    was: "a permit is left to a process that waited for it until the store failed it",
    profile: "outages",
    seeds: [17_535_193],
  },
  {
    was:
      "who gives permits back takes the next slots with that, before its turn to reserve, and those who are far get none",
    profile: "scattered",
    seeds: [18_301_695, 17_513_741, 17_256_813],
  },
  {
    was:
      "a process with a shorter lease grants permits for that to one with a longer lease, which works on without them",
    profile: "crowd",
    seeds: [40_191],
    isUnusual: true,
  },
  {
    was: "a process that may reserve farther ahead than the writer asks it all the time",
    profile: "crowd",
    seeds: [305],
    isUnusual: true,
  },
  {
    was: "the process whose clock is ahead by nothing to speak of wins every turn, where nothing is reserved",
    profile: "crowd",
    seeds: [6_000_180, 6_000_237],
    isUnusual: true,
  },
];
