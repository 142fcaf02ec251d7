import { useEffect, useState } from "react";

/** A part of the page that is loaded when it is first wanted. */
export class LazyModule<T> {
  loaded: T | null = null;
  private loading: Promise<T> | null = null;

  constructor(private readonly load: () => Promise<T>) {}

  /** Loads it once; after a failure the next call tries again. */
  async get(): Promise<T> {
    this.loading ??= this.load();
    try {
      this.loaded = await this.loading;
      return this.loaded;
    } catch (reason) {
      this.loading = null;
      throw reason;
    }
  }
}

/** The module once it is `wanted` and here, null before. */
export function useLazyModule<T>(lazy: LazyModule<T>, wanted: boolean): T | null {
  const [module, setModule] = useState<T | null>(lazy.loaded);
  useEffect(() => {
    if (!wanted || module) return;
    let mounted = true;
    lazy.get().then(
      (value) => mounted && setModule(value),
      // Offline: the text stays as it is.
      () => {},
    );
    return () => {
      mounted = false;
    };
  }, [lazy, wanted, module]);
  return module;
}
