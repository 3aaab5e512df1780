// Panels of 16 lanes: how many there are, memory for them, and work on a few at a time.

#pragma once

#include "products.h"

INLINE long panels_of(long count) { return (count + PANEL - 1) / PANEL; }

// The next `size` floats of the memory, in whole cache lines; nothing while they are counted.
INLINE float *take(float *memory, long &taken, long size) {
  float *part = memory ? memory + taken : nullptr;
  taken += panels_of(size) * PANEL;
  return part;
}

// Calls work(Group, panel) for all panels, GROUP of them at a time where there are as many.
template <int PANELS> struct Group {
  static constexpr int count = PANELS;
};
template <class Work> INLINE void over_panels(long panels, Work work) {
  long panel = 0;
  for (; panel + GROUP <= panels; panel += GROUP) work(Group<GROUP>{}, panel);
  for (; panel < panels; panel++) work(Group<1>{}, panel);
}
