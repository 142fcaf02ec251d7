/** Loads the page anew at its first address: nothing that this tab has in memory is left. */
export const page = { loadAnew: () => window.location.assign("/") };
