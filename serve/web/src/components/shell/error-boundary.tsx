import { Component, type ReactNode } from "react";
import { words } from "@/i18n";

/** Catches what a component throws and offers to load the page anew. */
export class ErrorBoundary extends Component<{ children: ReactNode }, { error: Error | null }> {
  state: { error: Error | null } = { error: null };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  render() {
    if (!this.state.error) return this.props.children;
    const t = words();
    return (
      <div role="alert" className="flex h-full flex-col items-center justify-center gap-4 p-6">
        <p>{t.errorCrash}</p>
        <pre className="max-w-full overflow-auto text-muted-foreground text-xs">
          {this.state.error.message}
        </pre>
        <button type="button" className="underline" onClick={() => window.location.reload()}>
          {t.reload}
        </button>
      </div>
    );
  }
}
